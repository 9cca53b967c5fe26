package redis

import (
	"context"
	"strings"
	"sync"

	"github.com/kisgrid/kisgrid/internal/redisreply"
)

// aspect is one thing that a connection needs of Redis. Each fails and comes back by itself: a Redis that is full answers reads,
// and says so of each write.
type aspect uint8

const (
	// reach: Redis answers at all.
	reach aspect = iota
	// saves: it carries out what is saved.
	saves
	// loads: it lets us read.
	loads

	aspects
)

// What the log says of an aspect that fails, and that comes back.
var aspectLost = [aspects]string{
	reach: "redis is away: calls wait and are tried again",
	saves: "redis does not take what is saved: Saves wait and are tried again",
	loads: "redis does not let keys be read: Loads wait and are tried again",
}

var aspectBack = [aspects]string{reach: "redis is back", saves: "redis takes what is saved again", loads: "redis lets keys be read again"}

// health is how Redis stands towards a connection. It is up while nothing is wrong.
type health struct {
	mu      sync.Mutex
	failing [aspects]error // why; guarded by mu, as all below
	slot    int            // saves failed there
	letter  byte           // with this operation
	closed  bool
}

// down is why the connection is of no use now; nil while it is. The first aspect counts.
func (h *health) down() error {
	for _, err := range h.failing {
		if err != nil {
			return err
		}
	}
	return nil
}

// Down is why Redis is of no use now: it is away, takes nothing that is saved, or lets no keys be read. nil: all is well. It
// does not block.
func (c *Connection) Down() error {
	c.health.mu.Lock()
	defer c.health.mu.Unlock()
	return c.health.down()
}

// note keeps one aspect's state, the metric and the log. What fails while the connection is closed says nothing of Redis.
func (c *Connection) note(a aspect, err error, slot int, letter byte) {
	if c.isClosing() {
		return
	}
	if err != nil {
		if text, _, args := strings.Cut(err.Error(), ", with args beginning with"); args {
			err = answerError(text) // they may be a row's
		}
	}
	h := &c.health
	h.mu.Lock()
	if h.closed {
		h.mu.Unlock()
		return
	}
	before, was := h.failing[a], h.down()
	h.failing[a] = err
	if a == saves && err != nil && before == nil {
		h.slot, h.letter = slot, letter
	}
	is := h.down()
	h.mu.Unlock()
	if (was == nil) != (is == nil) {
		change := 1
		if is == nil {
			change = -1
		}
		c.metrics.Up(c.name, 0, change)
	}
	switch {
	case before == nil && err != nil:
		c.log.Warn(aspectLost[a], "error", err)
	case before != nil && err == nil:
		c.log.Info(aspectBack[a])
	}
}

// reason is why an aspect fails; nil: it does not.
func (c *Connection) reason(a aspect) error {
	c.health.mu.Lock()
	defer c.health.mu.Unlock()
	return c.health.failing[a]
}

// reached notes whether Redis answers.
func (c *Connection) reached(missed error) { c.note(reach, missed, 0, 0) }

// answersLoads notes whether Redis lets keys be read. One that did not answer at all has been noted.
func (c *Connection) answersLoads(failure error) {
	if redisreply.IsAnswer(failure) && (failure != nil || c.reason(loads) != nil) {
		c.note(loads, failure, 0, 0)
	}
}

// refusesSaves notes that Redis does not take what is saved, in a slot by an operation. One that did not answer at all has been
// noted.
func (c *Connection) refusesSaves(failure error, slot int, letter byte) {
	if redisreply.IsAnswer(failure) {
		c.note(saves, failure, slot, letter)
	}
}

// takesSaves notes that Redis carries out what is saved, if it does so where it did not: took tells.
func (c *Connection) takesSaves(took func(slot int, letter byte) bool) {
	if slot, letter, failing := c.failingSaves(); failing && took(slot, letter) {
		c.note(saves, nil, 0, 0)
	}
}

// failingSaves is where and by which operation Redis did not take what was saved.
func (c *Connection) failingSaves() (slot int, letter byte, failing bool) {
	c.health.mu.Lock()
	defer c.health.mu.Unlock()
	return c.health.slot, c.health.letter, c.health.failing[saves] != nil
}

// tryFailing asks anew for what Redis did not do the last time, so that it is seen to be back also when nobody saves or loads.
func (c *Connection) tryFailing(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, c.options.client.DialTimeout)
	defer cancel()
	if slot, letter, failing := c.failingSaves(); failing {
		_ = c.saves.do(ctx, c.probe(slot, letter), "saving") // it shows in the connection's state
	}
	if c.reason(loads) != nil {
		_, _ = c.load(ctx, []string{c.probeKey(0)}) // it shows in the connection's state
	}
}
