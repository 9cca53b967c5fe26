package leader

import "github.com/kisgrid/kisgrid/internal/point"

// These count how often the process got to branches that mend what went wrong.
var (
	pointDeleted     = point.New("leader/flow: deleted")
	pointInvalid     = point.New("leader/rollout: the documents are wrong")
	pointDisabled    = point.New("leader/rollout: the flow is switched off")
	pointUnfit       = point.New("leader/rollout: all workers have another build")
	pointPending     = point.New("leader/rollout: no worker has the functions")
	pointRejected    = point.New("leader/rollout: a worker rejected the revision")
	pointLagging     = point.New("leader/rollout: a worker has not answered yet")
	pointLenient     = point.New("leader/rollout: documents stay that would be refused if they were new")
	pointDirect      = point.New("leader/rollout: a document was written past all coordinators")
	pointOtherStatus = point.New("leader/statuses: others are in etcd than were written")
	pointFailedPass  = point.New("leader/statuses: not written, and read again")
	pointTrimmed     = point.New("leader/history: that of a deleted flow was removed")
)
