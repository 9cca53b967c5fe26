package memory

import "github.com/kisgrid/kisgrid/internal/point"

// These count how often the process got to branches that mend what went wrong.
var (
	pointGivenUp    = point.New("memory/once: a batch is below the floor of its stream")
	pointSettled    = point.New("memory/once: a position is below the floor of its log")
	pointSuperseded = point.New("memory/once: a later term of a log has begun")
)
