# Fetches files. Standard input has a URL and a path for each, separated by a tab. The status is 3 if one cannot be fetched.

options(warn = 1, timeout = 86400)
for (line in readLines(file("stdin"))) {
    words <- strsplit(line, "\t", fixed = TRUE)[[1]]
    status <- tryCatch(
        download.file(words[1], words[2], quiet = TRUE, mode = "wb"),
        error = function(condition) {
            message(conditionMessage(condition))
            1
        }
    )
    if (status != 0) quit(status = 3)
}
