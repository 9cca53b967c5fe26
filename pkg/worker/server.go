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

// serverConfig is what sessions need of the worker. All fields but Tracer must be set.
type serverConfig struct {
	Registry   *kis.Registry
	Connectors *connector.Pool
	Limits     batch.Limits
	// ResultBytes is about how large a result may be before it is split.
	ResultBytes int
	Budget      amount
	Lease       time.Duration
	Logger      hclog.Logger
	Metrics     prometheus.Registerer
	// Tracer is nil where nobody traces.
	Tracer trace.Tracer
}

// server answers coordinators. It knows nothing of etcd: Worker gives it the id that it answers to.
type server struct {
	pb.UnimplementedWorkerServer
	config  serverConfig
	log     hclog.Logger
	metrics *metrics
	budget  *budget
	flows   *flows

	gate   *gate         // that all runs pass
	output *outputMemory // of what functions pass on

	connectors *connectorStates
	watching   sync.WaitGroup // the goroutine that looks at them
	stopWatch  chan struct{}  // closed to end it

	draining atomic.Bool
	changed  chan struct{} // holds a token while something that drain waits for may have happened
	// readiness is called, without a lock, when inSession may have changed, or draining has. Set before the first session.
	readiness func()

	// What follows is guarded by mu, under which no other lock is taken.
	mu           sync.Mutex
	id           string            // "" while the worker has none
	hadID        bool              // coordinators may know it by an id that it had
	peers        map[string]*peer  // by peerOf
	sessions     map[*session]bool // true once the handshake is over
	watchStarted bool              // the goroutine that looks at standings was started, with the first session
	closed       bool

	// goroutines are readers, senders and those that forget peers. It grows only while the call of a session is counted in
	// sessions, so that nothing is added once it is waited for.
	goroutines sync.WaitGroup
}

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
	saves := new(flowexec.Saves)
	s.flows = &flows{
		compile: s.compile, connectors: s.connectors, forgetMetrics: flowMetrics.Forget, forgetFunctionMetrics: flowMetrics.ForgetFunction, metrics: s.metrics,
		byName: map[string]*flow{}, plans: map[planKey]*plan{}, functions: map[flowFunction]int{},
		start: func(flow string, copies int) *flowexec.Lanes {
			return flowexec.StartLanes(flowexec.LanesConfig{
				Flow: flow, Copies: copies, Connectors: c.Connectors, Saves: saves, Logger: c.Logger.With("flow", flow), Metrics: flowMetrics, Tracer: c.Tracer,
				RunBytes: max(c.Budget.bytes/runShares, leastRunBytes), PieceBytes: c.ResultBytes - c.ResultBytes/4,
			})
		},
	}
	return s, nil
}

// tellAll has the senders of all sessions look at what there is to say.
func (s *server) wakeSenders() {
	s.mu.Lock()
	peers := slices.Collect(maps.Values(s.peers))
	s.mu.Unlock()
	for _, p := range peers {
		p.wakeUp()
	}
}

// identity is the id that the worker has at the moment.
func (s *server) workerID() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.id
}

// enter counts a session in; false: there are to be no more.
func (s *server) addSession(sess *session) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	if !s.watchStarted {
		s.watchStarted = true
		s.watching.Go(func() { s.connectors.watch(s.stopWatch, s.wakeSenders) })
	}
	s.sessions[sess] = false
	s.goroutines.Add(1) // until leave, so that the session may start goroutines of its own
	s.metrics.sessions.Inc()
	return true
}

// welcome notes that a session's handshake is over.
func (s *server) sessionOpened(sess *session) {
	s.mu.Lock()
	if _, in := s.sessions[sess]; in {
		s.sessions[sess] = true
	}
	s.mu.Unlock()
	s.readiness()
}

// inSession reports whether a coordinator can send rows.
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

// leave counts a session out that is over. Its peer is kept for a lease time.
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

// forget drops the peer of a session that is over unless another session takes its place within a lease time.
func (s *server) expirePeer(sess *session) {
	<-sess.readerDone // what it set is safe to read from now on
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
		s.metrics.peersExpired.Inc()
		s.log.Warn("forgot a coordinator: it did not come back within a lease time", "coordinator", p.coordinator)
		p.drop(errExpired)
		s.wakeDrain()
	}
}

// remove takes a peer out of those that sessions may resume; false: it was not one of them any more.
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

// noteChange lets drain look again.
func (s *server) wakeDrain() {
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// answerTo makes the worker answer to an id, which it did not have before; "" for none.
func (s *server) setID(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.id = id
}

// reset ends all sessions, forgets all coordinators and stops all lanes, and leaves the worker without an id.
func (s *server) reset(why error) {
	s.mu.Lock()
	s.id, s.hadID = "", s.hadID || s.id != ""
	peers := s.peers
	s.peers = map[string]*peer{}
	var strangers []*session // in their handshake
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

// close ends everything, for good, and waits for it. Safe twice.
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

func (s *server) allPeers() []*peer {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]*peer, 0, len(s.peers))
	for _, p := range s.peers {
		all = append(all, p)
	}
	return all
}
