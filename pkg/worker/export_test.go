package worker

// Execute runs one command line, as Main does, and returns the exit status.
var Execute = execute
