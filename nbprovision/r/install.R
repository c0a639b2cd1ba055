# Builds packages from the files in a folder, and installs them into a library.
#
#     R --vanilla -s -f install.R --args LIBRARY FOLDER PROCESSES PACKAGE...
#
# The output of each build is left in FOLDER/PACKAGE.out.

arguments <- commandArgs(trailingOnly = TRUE)
options(warn = 1)
invisible(tools::write_PACKAGES(arguments[2], type = "source"))
install.packages(
    arguments[-(1:3)],
    lib = arguments[1],
    contriburl = paste0("file://", arguments[2]),
    type = "source",
    dependencies = FALSE,
    # Side by side, R needs make even for packages without compiled code.
    Ncpus = if (nzchar(Sys.which("make"))) as.integer(arguments[3]) else 1L,
    keep_outputs = arguments[2]
)
