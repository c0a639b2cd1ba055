# Loads packages. Prints the name of each one that cannot be loaded, a tab and the reason.

for (name in commandArgs(trailingOnly = TRUE)) {
    tryCatch(
        suppressWarnings(suppressMessages(invisible(loadNamespace(name)))),
        error = function(condition) {
            cat(name, "\t", gsub("[\n\t]+", " ", conditionMessage(condition)), "\n", sep = "")
        }
    )
}
