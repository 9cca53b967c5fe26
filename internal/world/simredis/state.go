package simredis

import (
	"context"
	"time"
)

// troubles are states in which Redis refuses commands.
type troubles struct {
	full     bool   // the memory is full
	readOnly bool   // it is a replica
	refusing string // the error with which writes are refused
	loading  bool   // it loads its data
}

// The answers of a Redis in trouble.
const (
	answerFull     = "OOM command not allowed when used memory > 'maxmemory'."
	answerReadOnly = "READONLY You can't write against a read only replica."
	answerLoading  = "LOADING Redis is loading the dataset in memory"
)

// whileLoading are the commands that Redis takes while it loads its data.
var whileLoading = []string{"CLIENT", "CONFIG", "DISCARD", "INFO", "MULTI", "PUBLISH", "PUBSUB", "SELECT", "SUBSCRIBE", "UNSUBSCRIBE"}

// refusedWrite returns the error with which a write is refused, or none. wrote means that the write is of a script that has written before:
// then Redis asks no more whether the memory is full.
func (t *troubles) refusedWrite(name string, wrote bool) string {
	grows, writes := writes[name]
	switch {
	case !writes:
		return ""
	case t.refusing != "":
		return t.refusing
	case t.readOnly:
		return answerReadOnly
	case t.full && grows && !wrote:
		return answerFull
	}
	return ""
}

// Fill makes the memory full, so that commands that need memory are refused, or ends that.
func (r *Redis) Fill(full bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.troubles.full = full
}

// ReadOnly makes Redis a replica, which refuses writes, or a master again. Connections stay.
func (r *Redis) ReadOnly(on bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.troubles.readOnly = on
}

// RefuseWrites makes Redis refuse all writes with an error, such as MISCONF. An empty text ends that.
func (r *Redis) RefuseWrites(text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.troubles.refusing = text
}

// Load makes Redis say that it loads its data, or ends that.
func (r *Redis) Load(on bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.troubles.loading = on
}

// SetPassword gives the user default another password; empty means none. As in Redis, connections that are open stay authenticated.
func (r *Redis) SetPassword(password string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.password = password
}

// SetSlow makes each command wait for d before it is carried out. 0 ends that.
func (r *Redis) SetSlow(d time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.slow = d
}

// Pause stops Redis's process: connections stay and new ones come about, but no command is carried out until Resume.
func (r *Redis) Pause() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.paused == nil {
		r.paused = make(chan struct{})
	}
}

// Resume lets Redis go on after Pause.
func (r *Redis) Resume() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.resume()
}

// resume is Resume; r.mu is held.
func (r *Redis) resume() {
	if r.paused != nil {
		close(r.paused)
		r.paused = nil
	}
}

// Restart ends Redis's process and starts it again at once, with its data or without. Scripts and subscriptions are gone.
func (r *Redis) Restart(ctx context.Context, keep bool) error {
	r.Down()
	if err := r.forget(keep, time.Now()); err != nil {
		return err
	}
	return r.Up(ctx)
}

// Lose drops all data, as a restart does of a Redis that keeps nothing on disk.
func (r *Redis) Lose() error { return r.forget(false, time.Time{}) }

// Failover makes a replica the master, which does not have the writes of the last Config.Lag. Connections break.
func (r *Redis) Failover() error { return r.FailoverLosing(r.config.Lag) }

// FailoverLosing is Failover to a replica that is so far behind.
func (r *Redis) FailoverLosing(lost time.Duration) error {
	err := r.forget(true, time.Now().Add(-lost))
	r.CutAll()
	return err
}

// forget makes a new server of the data that was there at a time, or of none, without scripts.
func (r *Redis) forget(keep bool, at time.Time) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range r.journal {
		if w := &r.journal[i]; !keep || w.At.After(at) {
			w.Lost = true
		}
	}
	e, err := newEngine(r)
	if err != nil {
		return err
	}
	r.engine.close()
	r.engine = e
	for _, w := range r.journal {
		if !w.Lost {
			e.again(w)
		}
	}
	for c := range r.conns {
		c.over = true // until it is cut: no command of it may reach the new data
		close(c.done)
		_ = c.socket.Close()
		delete(r.conns, c)
		for channel := range c.channels {
			r.unsubscribe(c, channel)
		}
	}
	return nil
}
