package worker

import (
	"container/list"
	"sync"
)

// amount is rows and bytes, of a part, a credit or a budget.
type amount struct{ rows, bytes int64 }

func (a amount) plus(b amount) amount  { return amount{a.rows + b.rows, a.bytes + b.bytes} }
func (a amount) minus(b amount) amount { return amount{a.rows - b.rows, a.bytes - b.bytes} }
func (a amount) over(n int64) amount   { return amount{a.rows / n, a.bytes / n} }
func (a amount) none() bool            { return a == amount{} }
func (a amount) spent() bool           { return a.rows <= 0 || a.bytes <= 0 }

func least(a, b amount) amount { return amount{min(a.rows, b.rows), min(a.bytes, b.bytes)} }
func most(a, b amount) amount  { return amount{max(a.rows, b.rows), max(a.bytes, b.bytes)} }

// What a busy account is granted ahead of its parts is at most the budget over aheadShares and over the number of accounts;
// an idle one gets at most the budget over idleShares. Credit can't be taken back, so this bounds what flows that have gone
// quiet keep from the others.
const (
	aheadShares = 8
	idleShares  = 1024
)

// maxCredit keeps credits within what their fields on the wire hold.
const maxCredit = 1 << 30

// budget divides what the process may hold among accounts, one for each coordinator and flow. What an account uses is the
// credit that its coordinator has left plus what the worker holds for it: parts until their last result is acknowledged,
// results until they are. The policy, for rows and for bytes alike:
//
//   - An account that holds nothing always has credit for one part, whatever the others use. So no flow starves.
//   - Beyond that, no grant takes the sum of all uses over the budget. A part may overdraw its account's credit, so the sum
//     may exceed the budget by one part for each account; and by what functions pass on, which cannot be refused: while
//     that is so, only the credit for one part is granted.
//   - Busy accounts share, evenly, what the idle ones don't use, with one share left over for the next that comes: one
//     account alone gets half. Busy is who holds something, or sent something among the last rows that fill the budget.
//   - No account gets much further ahead of its parts than keeps its coordinator sending.
//
// It keeps no time and starts nothing. Its methods may be called by several goroutines.
type budget struct {
	total amount

	mu       sync.Mutex
	accounts int // open ones
	busy     int
	used     amount     // by all accounts
	idle     amount     // by those that are not busy
	held     amount     // by all accounts
	sent     int64      // rows, ever
	recent   *list.List // of *account: who sent something lately, the latest last
	starved  map[*account]bool
}

// account is one flow of one coordinator. Its fields are guarded by the budget's lock.
type account struct {
	budget *budget
	wake   func() // tells the owner to call grant again; must not block
	left   amount // credit not used; below zero where the last part overdrew it
	held   amount
	part   amount        // the last one
	sent   int64         // the budget's rows when this one last sent
	recent *list.Element // its place in the budget's list; nil if it is not there
	closed bool

	output *outputAccount // what it has of the room for what functions pass on; set by who opens it
}

// holdOutput counts what functions passed on, which needs no credit; made: it is the first time that it is counted.
func (a *account) holdOutput(bytes int64, made bool) {
	a.hold(amount{bytes: bytes})
	a.output.hold(bytes, made)
}

// releaseOutput counts it out.
func (a *account) releaseOutput(bytes int64) {
	a.release(amount{bytes: bytes})
	a.output.release(bytes)
}

func newBudget(total amount) *budget {
	return &budget{total: total, recent: list.New(), starved: map[*account]bool{}}
}

// sums is what all accounts use and hold together.
func (b *budget) sums() (s struct{ used, held amount }) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s.used, s.held = b.used, b.held
	return s
}

// open adds an account without credit.
func (b *budget) open(wake func()) *account {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.accounts++
	return &account{budget: b, wake: wake}
}

// uses and busy are called with the lock held.
func (a *account) uses() amount { return most(a.left, amount{}).plus(a.held) }
func (a *account) busy() bool   { return a.recent != nil || !a.held.none() }

// change alters an account, keeps the sums, and wakes who got less than it could use if there is more room now.
func (a *account) change(f func()) {
	wake := a.budget.change(a, f)
	for _, w := range wake {
		w.wake()
	}
}

func (b *budget) change(a *account, f func()) (wake []*account) {
	b.mu.Lock()
	defer b.mu.Unlock()
	before := a.uses()
	b.count(a, -1)
	f()
	b.count(a, 1)
	b.forget()
	if after := a.uses(); after.rows >= before.rows && after.bytes >= before.bytes {
		return nil
	}
	for s := range b.starved {
		wake = append(wake, s)
	}
	clear(b.starved)
	return wake
}

// count adds an account to the sums, or takes it out.
func (b *budget) count(a *account, sign int64) {
	uses, held := a.uses(), a.held
	if sign < 0 {
		uses, held = amount{}.minus(uses), amount{}.minus(held)
	}
	b.used, b.held = b.used.plus(uses), b.held.plus(held)
	if a.busy() {
		b.busy += int(sign)
	} else {
		b.idle = b.idle.plus(uses)
	}
}

// forget ends the business of those that sent nothing for a whole budget of rows.
func (b *budget) forget() {
	for e := b.recent.Front(); e != nil; e = b.recent.Front() {
		a := e.Value.(*account)
		if b.sent-a.sent <= b.total.rows {
			return
		}
		b.count(a, -1)
		b.recent.Remove(e)
		a.recent = nil
		b.count(a, 1)
	}
}

// spend takes a part in: what was credit is held. It reports false, and changes nothing, where there was no credit left to
// overdraw.
func (a *account) spend(part amount) (ok bool) {
	a.change(func() {
		if a.left.spent() {
			return
		}
		ok = true
		b := a.budget
		a.part, a.left, a.held = part, a.left.minus(part), a.held.plus(part)
		b.sent += part.rows
		a.sent = b.sent
		if a.recent == nil {
			a.recent = b.recent.PushBack(a)
		}
		b.recent.MoveToBack(a.recent)
	})
	return ok
}

// skip takes credit for a part that is not held.
func (a *account) skip(part amount) { a.change(func() { a.left = a.left.minus(part) }) }

// hold adds what nobody asked credit for: results.
func (a *account) hold(n amount) { a.change(func() { a.held = a.held.plus(n) }) }

// release gives back what was held.
func (a *account) release(n amount) { a.change(func() { a.held = a.held.minus(n) }) }

// close takes back all credit, for good. What is held stays so until it is released.
func (a *account) close() {
	a.change(func() {
		if a.closed {
			return
		}
		b := a.budget
		a.closed, a.left = true, amount{}
		b.accounts--
		delete(b.starved, a)
		if a.recent != nil {
			b.recent.Remove(a.recent)
			a.recent = nil
		}
	})
}

// renew starts a session's credit: it returns all that the account has left, which the coordinator forgot with the session
// before. What it sends again uses this credit.
func (a *account) renew() (left amount) {
	a.change(func() {
		a.left = most(a.left, amount{})
		a.topUp()
		left = a.left
	})
	return left
}

// grant gives the account more credit where it is short of it, and returns how much.
func (a *account) grant() (more amount) {
	a.change(func() { more = a.topUp() })
	return more
}

// topUp is called within change, while the account is not counted in the sums.
func (a *account) topUp() (more amount) {
	if a.closed {
		return amount{}
	}
	want := a.wants()
	target := least(want, most(a.left, amount{}).plus(a.room()))
	if a.held.none() {
		target = most(target, amount{1, 1})
	}
	if target.rows < want.rows || target.bytes < want.bytes {
		a.budget.starved[a] = true
	}
	// In lumps, so that not every part is followed by a credit; and never so little that nothing may be sent for it.
	half := target.over(2)
	if target.spent() || (a.left.rows > half.rows && a.left.bytes > half.bytes) {
		return amount{}
	}
	more = most(target.minus(a.left), amount{})
	a.left = a.left.plus(more)
	return more
}

// wants is how much credit the account should have ahead of its parts.
func (a *account) wants() amount {
	b := a.budget
	ahead := b.total.over(aheadShares * int64(b.accounts))
	if !a.busy() {
		ahead = least(ahead, b.total.over(idleShares))
	}
	return least(most(ahead, amount{1, 1}), amount{maxCredit, maxCredit})
}

// room is how much more the account may use; none where a part like its last would not fit.
func (a *account) room() amount {
	b := a.budget
	free := b.total.minus(b.used).minus(a.uses())
	if a.busy() {
		share := b.total.minus(b.idle).over(int64(b.busy) + 2) // itself, the others, and the next that comes
		free = least(free, share.minus(a.uses()))
	}
	if free.rows < a.part.rows || free.bytes < a.part.bytes {
		return amount{}
	}
	return most(free, amount{})
}
