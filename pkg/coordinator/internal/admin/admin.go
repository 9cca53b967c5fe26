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

// adminConfig is what the calls of Admin need of the coordinator that serves them. Letters may be nil; every other field must be set.
type Config struct {
	ID      string // of the coordinator
	Address string // where others reach it
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
	// maxSteps is how many steps a flow's document may have.
	MaxSteps int
	// draining is closed when the coordinator takes no batches any more, and nobody is to be kept waiting.
	Draining <-chan struct{}
}

// adminFleet knows workers and flows. Its methods may be called from any goroutine; those with a bool return false when ctx is done or
// the coordinator has ended.
type Fleet interface {
	// Workers are the live workers that are registered in etcd, by id.
	Workers(ctx context.Context) map[string]cluster.Worker
	// Coordinators are all coordinators that are registered in etcd, by id.
	Coordinators() map[string]cluster.Coordinator
	// Unserved returns, of the flows named, those that no worker can run now, and why.
	Unserved(ctx context.Context, flows []string) (map[string][]string, bool)
	// Connectors returns whether the connectors of active flows are connected; of all flows where none is named.
	Connectors(ctx context.Context, flows ...string) (flowstate.ConnectorReport, bool)
	// FollowedState is what is followed of flows in etcd; nil until that is listed.
	FollowedState() *cluster.State
}

// adminRows is the coordinator's scheduler, and the workers that it sends rows to.
type Rows interface {
	// Done is closed when the scheduler has ended.
	Done() <-chan struct{}
	// Ledgers are the counts of rows by flow; nil when ctx is done or the scheduler has ended.
	Ledgers(ctx context.Context) map[string]scheduler.Ledger
	// Find has the scheduler make a search, and waits for it.
	Find(ctx context.Context, s *scheduler.Search) error
	// Inspect runs f in the scheduler's goroutine and waits for it. When it returns false, because ctx is done or the scheduler has
	// ended, f may still run.
	Inspect(ctx context.Context, f func(*scheduler.Scheduler)) bool
	// BatchID is the id of a batch that the scheduler knows.
	BatchID(b *scheduler.Batch) batch.ID
	// Locate asks workers where their rows of a shard key are, and waits for their answers for a time. It returns the answers by
	// worker, and sentences about the workers that gave none.
	Locate(ctx context.Context, workers []string, question *pb.Locate) (answers map[string]*pb.Located, silent []string)
}

// adminBudget is the coordinator's budget of bytes that clients may have it hold.
type Budget interface {
	// ReserveCall takes out what a call with so many rows or documents, of so many bytes together, may hold. It returns false where
	// the budget has no room. The caller calls release once.
	ReserveCall(rows, bytes int) (release func(), ok bool)
	// AwaitRows notes a call that waits for rows to end, until done is called.
	AwaitRows() (done func())
}

// admin is the gRPC service that the command line speaks to.
type admin struct {
	pb.UnimplementedAdminServer
	Config

	// checking is held by the one call that checks documents.
	checking chan struct{}
	// lastDesired is what the documents asked for when somebody checked last. Only the call that holds checking uses it.
	lastDesired *leader.DesiredState

	explaining chan struct{} // holds a token for each call that looks for rows
	redrives   atomic.Uint64 // how many redrives of a flow have begun
}

// newAdmin makes the service.
func New(c Config) pb.AdminServer {
	return &admin{Config: c, checking: make(chan struct{}, 1), explaining: make(chan struct{}, explainsAtOnce)}
}
