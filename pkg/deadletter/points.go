package deadletter

import "github.com/kisgrid/kisgrid/internal/point"

// These count how often the process got to branches that mend what went wrong.
var (
	pointLockRunOut    = point.New("deadletter/lock: not renewed in time")
	pointLockTaken     = point.New("deadletter/lock: somebody else has it")
	pointFull          = point.New("deadletter/keep: the flow had as many letters as it may")
	pointGoneMeanwhile = point.New("deadletter/redrive: a letter was gone before it began")
)
