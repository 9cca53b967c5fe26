package world

// CountMutexes is countMutexes, for its test.
var CountMutexes = countMutexes
