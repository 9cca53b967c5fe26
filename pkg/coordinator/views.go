package coordinator

import "github.com/kisgrid/kisgrid/pkg/coordinator/internal/admin"

// FlowView is the status of a flow as the call Get of Admin returns it, in JSON.
type FlowView = admin.FlowView

// DocumentView is the status of a function's or connector's document as the call Get of Admin returns it, in JSON.
type DocumentView = admin.DocumentView

// WorkerView is the record of a worker as the call Get of Admin returns it, in JSON.
type WorkerView = admin.WorkerView

// Counted says which coordinator has counted the rows of a FlowView, and since when. Each coordinator counts the rows that clients submit
// to it.
type Counted = admin.Counted

// ClusterRows has the rows of a flow in all coordinators; it is in a FlowView.
type ClusterRows = admin.ClusterRows
