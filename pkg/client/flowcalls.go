package client

import (
	"golang.org/x/sync/semaphore"

	"github.com/kisgrid/kisgrid/pkg/batch"
)

// maxFlowBytes is the limit for the bytes that a client's calls of Submit to one flow have under way together. A coordinator closes a
// connection that sends too much at a time. A stream has credit, which says how much that is; calls have none. The limit is one batch of
// the largest size that coordinators take by default.
const maxFlowBytes = 8 << 20

// callSize is the number of bytes for which a call counts in maxFlowBytes: its rows, and 12 bytes for the end and key of each row, which
// weigh more than the row itself if that is small. A call that is larger than maxFlowBytes counts as that many, so that it can run alone.
func callSize(c *batch.Columns) int64 { return min(int64(len(c.Data)+12*c.Len()), maxFlowBytes) }

// flowCalls is the state that the calls of Submit to one flow share. Each flow has its own, so that calls to one flow never wait for
// calls to another: rows of the one may wait for data that rows of the other save.
type flowCalls struct {
	producer *producer           // gives ids to batches that have none
	room     *semaphore.Weighted // has maxFlowBytes; each call takes its callSize while it is under way

	// Client.mu guards the fields below.
	revision batch.Revision // on which new batches run, as a coordinator said last; zero means that none has said it yet
	users    int            // the number of calls under way
}

// enter returns the state of the flow's calls and counts one more call. The caller calls leave when the call has ended.
func (c *Client) enter(flow string) *flowCalls {
	c.mu.Lock()
	defer c.mu.Unlock()
	f := c.flows[flow]
	if f == nil {
		f = &flowCalls{producer: newProducer(batch.NewStreamID(), c.options.resubmit), room: semaphore.NewWeighted(maxFlowBytes)}
		c.flows[flow] = f
		c.add(f.producer)
	}
	f.users++
	return f
}

// leave notes that a call of Submit to the flow has ended. After the last call it forgets the state of a flow that never took a batch: the
// flow's name may be a mistake, and a program can make many of these.
func (c *Client) leave(flow string, f *flowCalls) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if f.users--; f.users == 0 && f.producer.unused() {
		delete(c.flows, flow)
		delete(c.producers, f.producer.id)
	}
}

// producerOf returns the producer for a batch of Submit: that of the flow's calls for a batch without an id, else the producer that gave
// the id. For an id that another client gave, it makes a producer that gives no ids.
func (c *Client) producerOf(f *flowCalls, id batch.ID) *producer {
	c.mu.Lock()
	defer c.mu.Unlock()
	if id.IsZero() {
		return f.producer
	}
	if p := c.producers[id.Stream]; p != nil {
		return p
	}
	return &producer{id: id.Stream, foreign: true, low: 1}
}

// revision returns the revision on which new batches of the flow run, as a coordinator said last. Zero means that none has said it.
func (c *Client) revision(f *flowCalls) batch.Revision {
	c.mu.Lock()
	defer c.mu.Unlock()
	return f.revision
}

// setRevision notes the revision of the flow that a coordinator named, for the next calls of Submit.
func (c *Client) setRevision(f *flowCalls, revision batch.Revision) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f.revision = revision
}
