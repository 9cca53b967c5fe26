package admin

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/cluster"
	"github.com/kisgrid/kisgrid/pkg/coordinator/internal/flowstate"
	"github.com/kisgrid/kisgrid/pkg/coordinator/internal/leader"
	"github.com/kisgrid/kisgrid/pkg/deadletter"
	"github.com/kisgrid/kisgrid/pkg/scheduler"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// Config is what the calls of Admin need of the coordinator that serves them. Letters may be nil; every other field must be set.
type Config struct {
	ID      string // the coordinator's id
	Address string // the address at which clients reach it
	Build   string // the version, and behind a "+" the commit where it is known
	Started time.Time
	Store   *cluster.Store
	Letters *deadletter.Store // nil means that this cluster keeps no dead letters
	Board   *flowstate.Board
	Fleet   Fleet
	Rows    Rows
	Budget  Budget
	Runner  LetterRunner
	Limits  batch.Limits
	// MaxSteps is how many steps a new flow document may have.
	MaxSteps int
	// Draining is closed when the coordinator is about to stop: it takes no batches any more, and calls that wait should end.
	Draining <-chan struct{}
}

// Fleet is the workers and flows that the coordinator knows. Its methods may be called from any goroutine. Those that return a bool return
// false when ctx is done or the coordinator has ended.
type Fleet interface {
	// Workers returns the live workers that are registered in etcd, by id.
	Workers(ctx context.Context) map[string]cluster.Worker
	// Coordinators returns the coordinators that are registered in etcd, by id.
	Coordinators() map[string]cluster.Coordinator
	// Unserved returns, of the flows named, those that no worker can run now, with the reasons.
	Unserved(ctx context.Context, flows []string) (map[string][]string, bool)
	// Connectors returns the states of the connectors that active flows need; of all flows where none is named.
	Connectors(ctx context.Context, flows ...string) (flowstate.ConnectorReport, bool)
	// FollowedState returns the flows' statuses as the coordinator follows them in etcd; nil until they are listed.
	FollowedState() *cluster.State
}

// Rows is the coordinator's scheduler, and the workers that it sends rows to. Its methods may be called from any goroutine.
type Rows interface {
	// Done is closed when the scheduler has ended.
	Done() <-chan struct{}
	// Ledgers returns the counts of rows by flow; nil when ctx is done or the scheduler has ended.
	Ledgers(ctx context.Context) map[string]scheduler.Ledger
	// Find has the scheduler make a search, and blocks until it is done.
	Find(ctx context.Context, s *scheduler.Search) error
	// Inspect runs f in the scheduler's goroutine and waits for it. When it returns false, because ctx is done or the scheduler has
	// ended, f may still run.
	Inspect(ctx context.Context, f func(*scheduler.Scheduler)) bool
	// BatchID returns the id of a batch that the scheduler knows.
	BatchID(b *scheduler.Batch) batch.ID
	// Locate asks workers where their rows of a shard key are, and blocks until they have answered or have had enough time. It returns the
	// answers by worker, and a sentence for each worker that gave none.
	Locate(ctx context.Context, workers []string, question *pb.Locate) (answers map[string]*pb.Located, silent []string)
}

// Budget is how many bytes clients may make the coordinator hold. Its methods may be called from any goroutine.
type Budget interface {
	// ReserveCall takes bytes out of the budget for a call with so many rows or documents, of so many bytes together. It returns false
	// where the budget has no room. The caller calls release once.
	ReserveCall(rows, bytes int) (release func(), ok bool)
	// AwaitRows notes that a call waits for rows to end, until done is called.
	AwaitRows() (done func())
}

// admin is the gRPC service Admin, which the command kisgrid calls. Any goroutine may use it.
type admin struct {
	pb.UnimplementedAdminServer
	Config

	// checking has room for one token. A call that checks documents puts it in and takes it out at the end, so that there is one at a time.
	checking chan struct{}
	// lastDesired is what the documents asked for when a call checked them last. Only the call whose token is in checking uses it.
	lastDesired *leader.DesiredState

	explaining chan struct{} // holds a token for each call of Explain that looks for rows
	redrives   atomic.Uint64 // how many redrives of one flow have begun
}

// New makes the service.
func New(c Config) pb.AdminServer {
	return &admin{Config: c, checking: make(chan struct{}, 1), explaining: make(chan struct{}, explainsAtOnce)}
}
