package client

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"google.golang.org/grpc"

	"github.com/kisgrid/kisgrid/internal/transport"
	"github.com/kisgrid/kisgrid/pkg/batch"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// Client is a connection to a cluster's coordinators. It is safe for concurrent use; one per process is enough.
type Client struct {
	target  string // as the user named it, for messages
	options options
	logger  hclog.Logger
	conn    *grpc.ClientConn
	ingest  pb.IngestClient
	closed  chan struct{} // closed by the first Close

	mu        sync.Mutex // guards what follows; taken before a producer's, never after
	closing   bool
	streams   map[*Stream]struct{}
	producers map[batch.StreamID]*producer // by the id that they give; those of Submit too
	sweep     int                          // how many producers there are when those are looked for that can be forgotten
	flows     map[string]*calls            // of Submit
}

// Dial makes a client for the coordinators that target names: host:port, a comma list of them, or dns:///name:port, whose
// addresses are looked up every 5 s, and sooner when connections break. Without a port it is 7700. Calls and new streams go
// round all that can be reached, those of a list too that come later; an open stream moves when its coordinator has more than
// its share. Dial does not block and does not connect; the first call does. The error is a target, an option or a TLS file that
// can't be used.
func Dial(target string, opts ...Option) (*Client, error) {
	o := defaults()
	for i, option := range opts {
		if option == nil {
			return nil, batch.Errorf(batch.CodeBadMessage, "dial %q: option %d is nil: leave it out", target, i+1)
		}
		option(&o)
	}
	if o.wrong != nil {
		return nil, fmt.Errorf("dial %q: %w", target, o.wrong)
	}
	address, dial, err := resolve(target)
	if err != nil {
		return nil, err
	}
	o.transport.Logger, o.transport.ProbeSilence = o.logger, true
	dial = append(dial, grpc.WithStatsHandler(trips{}))
	conn, err := transport.Dial(address, o.transport, append(dial, o.dial...)...)
	if err != nil {
		return nil, err
	}
	return &Client{
		target:    target,
		options:   o,
		logger:    o.logger,
		conn:      conn,
		ingest:    pb.NewIngestClient(conn),
		closed:    make(chan struct{}),
		streams:   make(map[*Stream]struct{}),
		producers: make(map[batch.StreamID]*producer),
		flows:     make(map[string]*calls),
	}, nil
}

// Close ends all streams and calls and waits for the streams' goroutines. What is unanswered then ends with ErrUnanswered:
// close the streams first, which waits for their answers. It is safe to call twice.
func (c *Client) Close() error {
	c.mu.Lock()
	first := !c.closing
	c.closing = true
	streams := slices.Collect(maps.Keys(c.streams))
	c.mu.Unlock()
	for _, s := range streams {
		s.cancel(errClientClosed)
	}
	for _, s := range streams {
		<-s.stopped
	}
	if !first {
		return nil
	}
	close(c.closed)
	return c.conn.Close()
}

// GiveUp says that the batch will not be submitted again although rows of it failed or its outcome is unknown, so that nobody
// need remember it any longer. Submitting it again is an error from then on. It does nothing to a batch that is done or was
// never sent, nor to nil.
func (c *Client) GiveUp(b *Batch) {
	if b == nil {
		return
	}
	b.GiveUp()
	id := b.ID()
	c.mu.Lock()
	p := c.producers[id.Stream]
	c.mu.Unlock()
	if p != nil {
		p.giveUp(id.Sequence)
		c.forget(p)
	}
}

// add keeps a producer. Now and then it drops those of ended streams of which nothing can be submitted any more: when there are
// twice as many as were left last time. The caller holds mu.
func (c *Client) add(p *producer) {
	if len(c.producers) >= c.sweep {
		now := time.Now()
		maps.DeleteFunc(c.producers, func(_ batch.StreamID, old *producer) bool { return old.forgettable(now) })
		c.sweep = max(minSweep, 2*len(c.producers))
	}
	c.producers[p.id] = p
}

// minSweep is below how many producers none are looked for.
const minSweep = 64

// forget drops a producer of which nothing can be submitted any more.
func (c *Client) forget(p *producer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if p.forgettable(time.Now()) {
		delete(c.producers, p.id)
	}
}
