package connector

import "github.com/kisgrid/kisgrid/internal/point"

// These count how often the process got to branches that mend what went wrong.
var (
	pointNotOpen  = point.New("connector/pool: a connection did not open")
	pointLingers  = point.New("connector/pool: a replaced connection was kept open for the runs to come")
	pointUnwanted = point.New("connector/pool: the last user left while a connection opened")
)
