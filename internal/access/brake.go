package access

import (
	"context"
	"net/netip"
	"sync"
	"time"
)

// The brake's limits.
const (
	freeMisses   = 3                      // the first wrong guesses from an address are answered at once
	firstDelay   = 100 * time.Millisecond // the answer to the next one takes so long, and to each further one twice as long as before
	longestDelay = 3 * time.Second        // the answer to a wrong guess takes at most so long
	forgetAfter  = time.Minute            // an address without wrong guesses for so long begins anew
	waitAtOnce   = 8                      // so many wrong guesses from one address may wait for their answers
	waitTotal    = 256                    // so many from all addresses
	maxAddresses = 4096                   // the brake remembers so many addresses
)

// brake slows down callers that show wrong tokens or secrets. The answer to a wrong guess is delayed, more with each guess from the same
// address. While many of them wait, tokens that nobody has shown before are not even looked up, so that an address gets only so many
// guesses in a time. Tokens that were shown before always work. Any goroutine may use it.
type brake struct {
	mu        sync.Mutex
	addresses map[netip.Prefix]*misses // guarded by mu
	waiting   int                      // guarded by mu: wrong guesses that wait for their answers
}

// misses are the wrong guesses from one address. The brake's lock guards it.
type misses struct {
	count   int // wrong guesses, not counting those before a pause of forgetAfter
	waiting int
	last    time.Time
}

// network returns the addresses that count as one: of IPv6 a network of 64 bits, since one machine may have that many addresses.
func network(address netip.Addr) netip.Prefix {
	address = address.Unmap()
	bits := address.BitLen()
	if address.Is6() {
		bits = 64
	}
	p, err := address.Prefix(bits)
	if err != nil {
		return netip.Prefix{} // the address is not one, as over a network in memory
	}
	return p
}

// pressed reports whether so many wrong guesses wait that further tokens from an address are not looked at. An address from which no wrong
// guess came lately is never shut out by others.
func (b *brake) pressed(address netip.Addr) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	m := b.addresses[network(address)]
	switch {
	case m == nil, m.waiting == 0 && time.Since(m.last) >= forgetAfter:
		return false
	}
	return b.waiting >= waitTotal || m.waiting >= waitAtOnce
}

// wait notes a wrong guess and blocks until it may be answered, or until ctx is done.
func (b *brake) wait(ctx context.Context, address netip.Addr) {
	delay, done := b.miss(network(address), time.Now())
	defer done()
	if delay == 0 {
		return
	}
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// miss notes a wrong guess. It returns for how long its answer is to wait; done must be called when the wait is over.
func (b *brake) miss(from netip.Prefix, now time.Time) (delay time.Duration, done func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	m := b.addresses[from]
	if m == nil {
		if b.addresses == nil {
			b.addresses = map[netip.Prefix]*misses{}
		}
		if len(b.addresses) >= maxAddresses {
			b.forget(now)
		}
		m = &misses{}
		b.addresses[from] = m
	}
	if m.waiting == 0 && now.Sub(m.last) >= forgetAfter {
		m.count = 0
	}
	m.count, m.last = m.count+1, now
	if over := m.count - freeMisses; over > 0 {
		delay = longestDelay
		if over <= 5 {
			delay = min(delay, firstDelay<<(over-1))
		}
	}
	m.waiting++
	b.waiting++
	return delay, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		m.waiting--
		b.waiting--
	}
}

// lookedAt is how many addresses forget looks at, as long as it finds one to drop. All of them would take too long under the lock.
const lookedAt = 32

// forget makes room for an address. It looks at some of the addresses, drops those that made no wrong guess for forgetAfter, and if there are
// none, the one whose last guess is oldest. The caller holds the lock. An address with waiting guesses stays.
func (b *brake) forget(now time.Time) {
	var oldest netip.Prefix
	var since time.Time
	found, looked := false, 0
	for from, m := range b.addresses { // begins at another address each time
		if looked++; looked > lookedAt && (found || len(b.addresses) < maxAddresses) {
			break
		}
		if m.waiting > 0 {
			continue
		}
		if now.Sub(m.last) >= forgetAfter {
			delete(b.addresses, from)
			continue
		}
		if !found || m.last.Before(since) {
			oldest, since, found = from, m.last, true
		}
	}
	if found && len(b.addresses) >= maxAddresses {
		delete(b.addresses, oldest)
	}
}
