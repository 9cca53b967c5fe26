package redis

import (
	"strings"
	"sync"

	"github.com/kisgrid/kisgrid/internal/redisreply"
)

// aspect is one thing that a connection needs from Redis. Each can fail and come back by itself: a Redis whose memory is full answers
// reads, and refuses writes.
type aspect uint8

const (
	// reach means that Redis answers at all.
	reach aspect = iota
	// saves means that Redis carries out Saves.
	saves
	// loads means that Redis lets keys be read.
	loads

	aspects // the number of aspects
)

// aspectLost has, for each aspect, the log message when it begins to fail.
var aspectLost = [aspects]string{
	reach: "redis is away: calls wait and are tried again",
	saves: "redis does not take what is saved: Saves wait and are tried again",
	loads: "redis does not let keys be read: Loads wait and are tried again",
}

// aspectBack has, for each aspect, the log message when it works again.
var aspectBack = [aspects]string{reach: "redis is back", saves: "redis takes what is saved again", loads: "redis lets keys be read again"}

// health knows which aspects of a connection fail. The connection is up (metric kisgrid_connector_up) while none does. Any goroutine
// may call its methods.
type health struct {
	conn *Connection

	mu      sync.Mutex     // guards everything below
	failing [aspects]error // why an aspect fails; nil means that it does not
	slot    int            // the Cluster slot in which Saves began to fail
	letter  byte           // the operation with which Saves began to fail
	closed  bool           // the connection is closed: its metric is gone
}

// down returns the error of the first aspect that fails; nil means that the connection can be used. h.mu is held.
func (h *health) down() error {
	for _, err := range h.failing {
		if err != nil {
			return err
		}
	}
	return nil
}

// Down returns why Redis can't be used now: it does not answer, carries out no Saves, or lets no keys be read. nil means that all is
// well. It does not block.
func (c *Connection) Down() error {
	c.health.mu.Lock()
	defer c.health.mu.Unlock()
	return c.health.down()
}

// note sets or clears the error of an aspect, and keeps the metric and the log in step. slot and letter say where Saves fail; they are
// used only if they begin to. An error while the connection is being closed is not noted, since it says nothing about Redis.
func (h *health) note(a aspect, err error, slot int, letter byte) {
	c := h.conn
	if c.isClosing() {
		return
	}
	if err != nil {
		if text, _, found := strings.Cut(err.Error(), ", with args beginning with"); found {
			err = answerError(text) // the arguments may be a row's, which no log may show
		}
	}
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
		pointFailing.Hit()
		c.log.Warn(aspectLost[a], "error", err)
	case before != nil && err == nil:
		pointBack.Hit()
		c.log.Info(aspectBack[a])
	}
}

// close stops the health from changing. It reports whether the connection was up until now.
func (h *health) close() (up bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	return h.down() == nil
}

// reason returns why an aspect fails; nil means that it does not.
func (h *health) reason(a aspect) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.failing[a]
}

// reached notes whether Redis can be reached: nil means that it answered a command, an error that it did not.
func (h *health) reached(unanswered error) { h.note(reach, unanswered, 0, 0) }

// answersLoads notes whether Redis lets keys be read: failure is Redis's refusal, and nil means that Redis lets keys be read. An error
// that is no answer of Redis is passed over, since reached has noted it.
func (h *health) answersLoads(failure error) {
	if redisreply.IsAnswer(failure) && (failure != nil || h.reason(loads) != nil) {
		h.note(loads, failure, 0, 0)
	}
}

// refusesSaves notes that Redis refused the operation with this letter, in a slot of a Cluster (0 without a Cluster). An error that is
// no answer of Redis is passed over, since reached has noted it.
func (h *health) refusesSaves(failure error, slot int, letter byte) {
	if redisreply.IsAnswer(failure) {
		h.note(saves, failure, slot, letter)
	}
}

// takesSaves ends a failure of Saves, if there is one and Redis has carried out an operation like that with which the failure began.
// took reports whether Redis has carried out the operation with a letter in a slot.
func (h *health) takesSaves(took func(slot int, letter byte) bool) {
	if slot, letter, failing := h.failingSaves(); failing && took(slot, letter) {
		h.note(saves, nil, 0, 0)
	}
}

// failingSaves returns the slot and the operation with which Saves began to fail, and whether they still do.
func (h *health) failingSaves() (slot int, letter byte, failing bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.slot, h.letter, h.failing[saves] != nil
}
