package client

import (
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sync/semaphore"
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
	producers map[batch.StreamID]*producer
	unary     map[string]*producer           // of Submit, by flow; they are in producers too
	revisions map[string]batch.Revision      // what new batches of Submit run on, by flow, as a coordinator said last
	rooms     map[string]*semaphore.Weighted // for the rows of calls that are under way, by flow
}

// Dial makes a client for the coordinators that target names: host:port, a comma list of them, or dns:///name:port, whose
// addresses are looked up every 5 s, and sooner when connections break. Without a port it is 7700. Calls and new streams go
// round all that can be reached, those of a list too that come later; an open stream moves when its coordinator has more than
// its share. Dial does not block and does not connect; the first call does. The error is a target or TLS file that can't be
// used.
func Dial(target string, opts ...Option) (*Client, error) {
	o := defaults()
	for _, option := range opts {
		option(&o)
	}
	address, dial, err := resolve(target)
	if err != nil {
		return nil, err
	}
	o.transport.Logger = o.logger
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
		unary:     make(map[string]*producer),
		revisions: make(map[string]batch.Revision),
		rooms:     make(map[string]*semaphore.Weighted),
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
// never used.
func (c *Client) GiveUp(b *Batch) {
	c.mu.Lock()
	p := c.producers[b.ID().Stream]
	c.mu.Unlock()
	if p != nil {
		p.giveUp(b.ID().Sequence)
	}
}

// producer finds or makes the producer whose ids a batch of Submit has.
func (c *Client) producer(flow string, id batch.ID) *producer {
	c.mu.Lock()
	defer c.mu.Unlock()
	if id.IsZero() {
		if c.unary[flow] == nil {
			c.unary[flow] = c.add(newProducer(batch.NewStreamID(), flow, c.options.resubmit))
		}
		return c.unary[flow]
	}
	if p := c.producers[id.Stream]; p != nil {
		return p
	}
	return c.add(foreignProducer(id.Stream, flow, c.options.resubmit))
}

// add keeps a producer, and drops those of ended streams of which nothing can be submitted any more. The caller holds mu.
func (c *Client) add(p *producer) *producer {
	now := time.Now()
	maps.DeleteFunc(c.producers, func(_ batch.StreamID, old *producer) bool { return old.forgettable(now) })
	c.producers[p.id] = p
	return p
}
