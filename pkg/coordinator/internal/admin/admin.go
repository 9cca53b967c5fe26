package admin

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kisgrid/kisgrid/internal/access"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/cluster"
	"github.com/kisgrid/kisgrid/pkg/coordinator/internal/figures"
	"github.com/kisgrid/kisgrid/pkg/coordinator/internal/flowstate"
	"github.com/kisgrid/kisgrid/pkg/coordinator/internal/leader"
	"github.com/kisgrid/kisgrid/pkg/deadletter"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// Config is what the calls of Admin need of the coordinator that serves them. Letters and Identify may be nil; every other field must be set.
type Config struct {
	ID      string // the coordinator's id
	Address string // the address at which clients reach it
	Build   string // the coordinator's version, followed by "+" and the commit if that is known
	Started time.Time
	Store   *cluster.Store
	Letters *deadletter.Store // nil means that this cluster keeps no dead letters
	Board   *flowstate.Board
	Fleet   Fleet
	Rows    Rows
	Budget  Budget
	Runner  LetterRunner
	Limits  batch.Limits
	// MaxSteps is the most steps that a new flow document may have.
	MaxSteps int
	// RefuseDirect says that the leader refuses documents that no coordinator has written.
	RefuseDirect bool
	// Auditor notes who changes something, or reads rows.
	Auditor *Auditor
	// Book has what the whole cluster has counted.
	Book *figures.Book
	// CountOwn reads this coordinator's own counts into the Book, which happens once a second in any case.
	CountOwn func(context.Context)
	// Carriers waits for goroutines that send the answers of a call. They may outlive the call for a moment.
	Carriers *sync.WaitGroup
	// Identify finds out who calls, by the access file as it is now. Nil means that there is none.
	Identify func(context.Context) (*access.Identity, error)
	// Draining is closed when the coordinator is about to stop: it takes no batches any more, and calls that wait should end.
	Draining <-chan struct{}
}

// admin is the gRPC service Admin, which the command kisgrid calls. Any goroutine may use it.
type admin struct {
	pb.UnimplementedAdminServer
	Config

	// checking has room for one token. A call that checks documents puts it in and takes it out at the end, so that one call at a time
	// checks documents.
	checking chan struct{}
	// lastDesired is what the documents asked for when a call checked them last. Only the call whose token is in checking uses it.
	lastDesired *leader.DesiredState

	explaining chan struct{} // holds a token for each call of Explain that looks for rows
	tapping    chan struct{} // holds a token for each call of Tap
	redrives   atomic.Uint64 // number of calls of redriveFlow so far
}

// New makes the gRPC service Admin of one coordinator, which the command kisgrid calls.
func New(c Config) pb.AdminServer {
	return &admin{Config: c, checking: make(chan struct{}, 1), explaining: make(chan struct{}, explainsAtOnce), tapping: make(chan struct{}, tapsAtOnce)}
}
