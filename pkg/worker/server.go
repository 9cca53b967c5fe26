package worker

import (
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/connector"
	"github.com/kisgrid/kisgrid/pkg/flowexec"
	"github.com/kisgrid/kisgrid/pkg/kis"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// serverConfig is the part of the worker's configuration that sessions need. Every field except Tracer must be set.
type serverConfig struct {
	Registry   *kis.Registry
	Connectors *connector.Pool
	Limits     batch.Limits
	// ResultBytes is about how large a Result message gets before it is split, in bytes.
	ResultBytes int
	Budget      amount        // the limit for rows and bytes of all coordinators together
	Lease       time.Duration // how long a coordinator without a session is remembered
	Logger      hclog.Logger
	Metrics     prometheus.Registerer
	// Tracer makes the spans of parts and runs; nil means that nobody traces.
	Tracer trace.Tracer
}

// server has all sessions, peers, flows and limits of a worker, and implements its gRPC service. It knows nothing of etcd: the
// membership sets the id to which the server answers.
//
// Lock order: peer.mu comes before the locks of budget, outputMemory and flows. No lock is taken while server.mu is held.
type server struct {
	pb.UnimplementedWorkerServer
	config  serverConfig
	log     hclog.Logger
	metrics *metrics
	budget  *budget // divides the credit among coordinators and flows
	flows   *flows  // lanes and plans

	gate   *gate         // every run of every lane passes it
	output *outputMemory // limits what functions pass on

	figures *figures  // counts for coordinators
	taps    tapBudget // the time that taps may use

	connectors *connectorStates // whether the connectors of plans work
	watching   sync.WaitGroup   // the goroutine of connectors.watch
	stopWatch  chan struct{}    // closed to end that goroutine

	draining atomic.Bool   // the worker takes no new rows
	changed  chan struct{} // holds a token when drain should look again
	// readiness is called without a lock when inSession or draining may have changed. It is set before the first session
	// begins.
	readiness func()

	// mu guards the fields below. No other lock is taken while it is held.
	mu sync.Mutex
	// id is the id of the worker's record in etcd; "" while there is no record.
	id           string
	hadID        bool              // the worker had an id earlier, by which coordinators may still dial it
	peers        map[string]*peer  // by peerKey
	sessions     map[*session]bool // every open session; the value is true once its handshake is over
	watchStarted bool              // connectors.watch was started, with the first session
	closed       bool              // there are to be no new sessions

	// goroutines counts the readers and senders of sessions, and the goroutines that forget peers. It grows only between
	// addSession and removeSession, so that close can wait for it.
	goroutines sync.WaitGroup
}

// newServer makes the server and registers the metrics. Nothing runs yet.
func newServer(c serverConfig) (*server, error) {
	flowMetrics, err := flowexec.NewMetrics(c.Metrics)
	if err != nil {
		return nil, err
	}
	s := &server{
		config: c, log: c.Logger, metrics: newMetrics(c.Metrics), budget: newBudget(c.Budget), gate: newGate(), output: newOutputMemory(c.Budget.bytes / 2),
		changed: make(chan struct{}, 1), readiness: func() {}, peers: map[string]*peer{}, sessions: map[*session]bool{},
		connectors: newConnectorStates(c.Connectors), stopWatch: make(chan struct{}),
	}
	s.budget.register(c.Metrics)
	s.output.register(c.Metrics)
	s.taps.register(c.Metrics)
	saves := new(flowexec.Saves)
	s.flows = &flows{
		compile: s.compile, connectors: s.connectors, forgetMetrics: flowMetrics.Forget, forgetFunctionMetrics: flowMetrics.ForgetFunction, metrics: s.metrics,
		byName: map[string]*flow{}, plans: map[planKey]*plan{}, functions: map[flowFunction]int{}, lost: map[string]time.Time{},
		taps: map[string][]*flowexec.Tap{},
		start: func(flow string, copies int) *flowexec.Lanes {
			return flowexec.StartLanes(flowexec.LanesConfig{
				Flow: flow, Copies: copies, Connectors: c.Connectors, Saves: saves, Logger: c.Logger.With("flow", flow), Metrics: flowMetrics, Tracer: c.Tracer,
				RunBytes: max(c.Budget.bytes/runShares, leastRunBytes), PieceBytes: c.ResultBytes - c.ResultBytes/4,
				GrowthBytes: max(growthBudgets*c.Budget.bytes, leastGrowthBytes),
			})
		},
	}
	s.figures = newFigures(flowMetrics, s.flows, s.budget)
	return s, nil
}

// everySecond drops the metrics of flows that were lost, and makes sessions tell figures that have changed. It is called about once a second,
// and sometimes more often.
func (s *server) everySecond() {
	s.flows.forgetLost()
	if s.figures.refresh(time.Now()) {
		s.wakeSenders()
	}
}

// wakeSenders makes the sender of each session check whether there is something new to send.
func (s *server) wakeSenders() {
	s.mu.Lock()
	peers := slices.Collect(maps.Values(s.peers))
	s.mu.Unlock()
	for _, p := range peers {
		p.wakeUp()
	}
}

// workerID returns the worker's current id. It is "" while the worker has none.
func (s *server) workerID() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.id
}

// addSession adds a new session to the open ones. It returns false, and does nothing, when the server is closed. The first
// session starts the goroutine that watches connectors, flows that were lost, and figures.
func (s *server) addSession(sess *session) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	if !s.watchStarted {
		s.watchStarted = true
		s.watching.Go(func() { s.connectors.watch(s.stopWatch, s.wakeSenders, s.everySecond) })
	}
	s.sessions[sess] = false
	s.goroutines.Add(1) // removed by removeSession; until then the session may add its own goroutines
	s.metrics.sessions.Inc()
	return true
}

// sessionOpened notes that a session's handshake is over, so that the session can bring rows, and updates the worker's
// readiness.
func (s *server) sessionOpened(sess *session) {
	s.mu.Lock()
	if _, in := s.sessions[sess]; in {
		s.sessions[sess] = true
	}
	s.mu.Unlock()
	s.readiness()
}

// inSession reports whether the worker has a session that can bring rows.
func (s *server) inSession() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, greeted := range s.sessions {
		if greeted {
			return true
		}
	}
	return false
}

// removeSession takes a session that has ended off the open ones. It starts a goroutine that forgets the session's coordinator
// if no other session of it begins within a lease time.
func (s *server) removeSession(sess *session) {
	code := "NONE"
	if sess.err != nil {
		code = batch.CodeOf(sess.err).String()
	}
	s.metrics.sessionsEnded.WithLabelValues(code).Inc()
	s.metrics.sessions.Dec()
	s.goroutines.Go(func() { s.expirePeer(sess) })
	s.mu.Lock()
	delete(s.sessions, sess)
	s.mu.Unlock()
	s.readiness()
	s.goroutines.Done()
	s.wakeDrain()
}

// expirePeer waits for a lease time after the end of a session. If no other session of the coordinator began in that time, it
// drops the coordinator's peer.
func (s *server) expirePeer(sess *session) {
	<-sess.readerDone // the reader sets log and peer
	sess.log.Info("session ended", "lasted", time.Since(sess.began).Round(time.Millisecond), "reason", sess.err)
	p := sess.peer
	if p == nil {
		return
	}
	lease := time.NewTimer(s.config.Lease)
	defer lease.Stop()
	select {
	case <-sess.replaced:
		return
	case <-lease.C:
	}
	if p.session.Load() == sess && s.removePeer(p) {
		pointExpired.Hit()
		s.metrics.peersExpired.Inc()
		s.log.Warn("forgot a coordinator, because it had no session for the time of a lease", "coordinator", p.coordinator)
		p.drop(errExpired)
		s.wakeDrain()
	}
}

// removePeer takes a coordinator's peer off the list in which new sessions look for an earlier peer. It returns false, and
// does nothing, when the peer is not in the list any more.
func (s *server) removePeer(p *peer) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.peers[p.key] != p {
		return false
	}
	delete(s.peers, p.key)
	s.metrics.peers.Dec()
	return true
}

// wakeDrain makes a waiting drain check again whether every result is delivered. It does nothing while the worker does not
// drain.
func (s *server) wakeDrain() {
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// setID sets the worker's id, which coordinators must name in Hello. Each registration has a new id; "" makes the worker
// refuse sessions.
func (s *server) setID(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.id = id
}

// reset ends every session, forgets every coordinator, and cancels all running rows. It waits until all lanes have stopped.
// Afterwards the worker has no id and refuses sessions until setID gives it another id.
func (s *server) reset(why error) {
	s.mu.Lock()
	if s.id != "" && !s.closed {
		pointReset.Hit()
	}
	s.id, s.hadID = "", s.hadID || s.id != ""
	peers := s.peers
	s.peers = map[string]*peer{} // sessions that begin from now on find no earlier peer
	var strangers []*session     // sessions that have no peer yet, because they are in their handshake
	for sess := range s.sessions {
		strangers = append(strangers, sess)
	}
	s.mu.Unlock()
	for _, p := range peers {
		p.drop(why)
		s.metrics.peers.Dec()
	}
	for _, sess := range strangers {
		sess.end(why)
		<-sess.readerDone
	}
	s.flows.stopAll()
	s.wakeDrain()
}

// close ends everything for good and waits for all goroutines. It may be called twice.
func (s *server) close() {
	s.mu.Lock()
	first := !s.closed
	s.closed = true
	s.mu.Unlock()
	s.reset(errClosed)
	s.goroutines.Wait()
	if first {
		close(s.stopWatch)
	}
	s.watching.Wait()
}

// allPeers returns the peers of all coordinators that the worker has not forgotten.
func (s *server) allPeers() []*peer {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]*peer, 0, len(s.peers))
	for _, p := range s.peers {
		all = append(all, p)
	}
	return all
}
