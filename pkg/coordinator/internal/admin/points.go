package admin

import "github.com/kisgrid/kisgrid/internal/point"

// These count how often the process got to branches that mend what went wrong.
var (
	pointRedriveDrained = point.New("admin/redrive: ended early because the coordinator drains")
	pointRedriveCut     = point.New("admin/redrive: cut off")
	pointLeftBehind     = point.New("admin/redrive: a letter was left behind one that failed")
)
