# Prints the packages of repositories that some packages need, as records of DCF, on standard output.
#
#     R --vanilla -s -f query.R --args PACKAGE...
#
# Standard input has the URLs of the repositories, one a line. The status is 3 if one of them cannot be read.

repositories <- readLines(file("stdin"))
options(warn = 1, timeout = 86400)

# R tries several forms of the index, and warns of each one that is missing: only the last warning counts.
warnings <- character()
unreadable <- function() {
    message(paste(unique(warnings), collapse = "\n"))
    quit(status = 3)
}
# All versions: nbprovision chooses, and explains what does not fit this R.
packages <- tryCatch(
    withCallingHandlers(
        available.packages(
            contriburl = contrib.url(repositories, "source"), filters = c("OS_type", "subarch"), ignore_repo_cache = TRUE
        ),
        warning = function(condition) {
            warnings <<- c(warnings, conditionMessage(condition))
            invokeRestart("muffleWarning")
        }
    ),
    error = function(condition) {
        warnings <<- c(warnings, conditionMessage(condition))
        unreadable()
    }
)
if (any(startsWith(warnings, "unable to access index"))) unreadable()

needs <- c("Depends", "Imports", "LinkingTo")
names_in <- function(fields) {
    fields <- unlist(strsplit(fields[!is.na(fields)], ",", fixed = TRUE))
    trimws(sub("[(].*", "", fields))
}
seen <- character()
ahead <- commandArgs(trailingOnly = TRUE)
while (length(ahead)) {
    seen <- c(seen, ahead)
    ahead <- setdiff(names_in(packages[packages[, "Package"] %in% ahead, needs]), seen)
}
chosen <- packages[, "Package"] %in% seen
fields <- intersect(c("Package", "Version", "Priority", needs, "File", "MD5sum", "Repository"), colnames(packages))
write.dcf(packages[chosen, fields, drop = FALSE], stdout(), width = 1e6)
