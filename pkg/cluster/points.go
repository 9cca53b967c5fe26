package cluster

import "github.com/kisgrid/kisgrid/internal/point"

// These count how often the process got to branches that mend what went wrong.
var (
	pointListedAgain  = point.New("cluster/watch: it ended and the keys are listed again")
	pointWentBack     = point.New("cluster/watch: etcd is at an older revision than before")
	pointNotRenewed   = point.New("cluster/lease: not renewed in time")
	pointClaimGone    = point.New("cluster/lease: its key is gone")
	pointClaimResumed = point.New("cluster/lease: renewed after all")
	pointLostAtWrite  = point.New("cluster/lease: a write showed that its key is gone")
	pointOutage       = point.New("cluster/etcd: out of reach")
	pointBack         = point.New("cluster/etcd: in reach again")
	pointInDoubt      = point.New("cluster/transaction: nobody knows whether it was written")
	pointNameRace     = point.New("cluster/names: records changed while one was written")
	pointTermAgain    = point.New("cluster/log: a term began while another one did")
	pointNotElected   = point.New("cluster/election: a campaign was lost")
	pointNotLeader    = point.New("cluster/election: a write of a leader that leads no more was refused")
)
