package client

import (
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/hashicorp/go-hclog"
	"google.golang.org/grpc"

	"github.com/kisgrid/kisgrid/internal/transport"
	"github.com/kisgrid/kisgrid/pkg/batch"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// Client submits batches to the coordinators of one cluster. It is safe for concurrent use, and one for each process is enough.
type Client struct {
	target  string // as the program named it, for messages
	options options
	logger  hclog.Logger
	conn    *grpc.ClientConn // to all coordinators of the target
	ingest  pb.IngestClient  // on conn
	closed  chan struct{}    // the first Close closes it, once the streams have ended

	// mu guards the fields below. A goroutine that needs the mutex of a producer, too, locks mu first.
	mu        sync.Mutex
	closing   bool
	streams   map[*Stream]struct{}         // the streams that have not ended
	producers map[batch.StreamID]*producer // the producers of streams and of Submit, by their stream id
	sweepAt   int                          // the number of producers at which add looks for producers that it can forget
	flows     map[string]*flowCalls        // the calls of Submit, by the name of the flow
}

// Dial makes a client for the coordinators that target names: host:port, several of them with commas between, or dns:///name:port,
// whose addresses are looked up every 5 s, and sooner when connections break. The default port is 7700. Calls and new streams are
// spread over all coordinators that can be reached, also over those of a list that start later. An open stream moves when its
// coordinator has more than its share of the streams. Dial neither blocks nor connects: the first call connects. The error says that
// the target, an option or a TLS file can't be used.
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
	address, dial, err := transport.Resolve(target)
	if err != nil {
		return nil, err
	}
	o.transport.Logger, o.transport.ProbeSilence = o.logger, true
	dial = append(dial, grpc.WithStatsHandler(progressHandler{}))
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
		flows:     make(map[string]*flowCalls),
	}, nil
}

// Close ends all streams and calls, and waits for the goroutines of the streams. Batches that were sent and have no answer then end
// with ErrUnanswered. To wait for their answers, close the streams first. Close may be called twice.
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

// GiveUp says that the program will not submit the batch again, although rows of it failed or its outcome is unknown. The client and
// the cluster then need not remember it, and submitting it again is an error. GiveUp does nothing with a batch that was answered
// without failed rows, with one that was never sent, and with nil.
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
