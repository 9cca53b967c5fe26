package worker

import (
	"container/list"
	"sync"
)

// amount is a number of rows together with their bytes: of a part, a credit or a budget.
type amount struct{ rows, bytes int64 }

// plus returns the sum of two amounts.
func (a amount) plus(b amount) amount { return amount{a.rows + b.rows, a.bytes + b.bytes} }

// minus returns the difference of two amounts, which may be negative.
func (a amount) minus(b amount) amount { return amount{a.rows - b.rows, a.bytes - b.bytes} }

// over divides both numbers by n.
func (a amount) over(n int64) amount { return amount{a.rows / n, a.bytes / n} }

// none reports whether both numbers are zero.
func (a amount) none() bool { return a == amount{} }

// spent reports whether the number of rows or the number of bytes is zero or less.
func (a amount) spent() bool { return a.rows <= 0 || a.bytes <= 0 }

// least returns the smaller number of rows and the smaller number of bytes.
func least(a, b amount) amount { return amount{min(a.rows, b.rows), min(a.bytes, b.bytes)} }

// most returns the larger number of rows and the larger number of bytes.
func most(a, b amount) amount { return amount{max(a.rows, b.rows), max(a.bytes, b.bytes)} }

// Shares of the budget that an account may be granted ahead of its parts. Credit can't be taken back, so these shares bound the
// credit that silent flows withhold from the others.
const (
	aheadShares = 8     // busy accounts together get at most the budget divided by aheadShares ahead of their parts
	idleShares  = 16384 // an idle account gets at most the budget divided by idleShares
	growth      = 16    // how many times as much a busy account gets ahead of its parts each time that it has used half of it
)

// maxCredit is the largest credit, in rows and in bytes, that an account can have. It fits into the 32 bits that a message has
// for it.
const maxCredit = 1 << 30

// budget divides the rows and bytes that the process may hold among accounts. Each pair of coordinator and flow has an
// account. An account uses two amounts: the credit that its coordinator still has, and the parts and results that the worker
// holds for it. Parts and results count until they are acknowledged. The policy, for rows and for bytes alike:
//
//   - An account that holds nothing always has credit for one part, whatever the others use. So no flow starves.
//   - Beyond that, no grant takes the sum of all uses over the budget. A part may overdraw its account's credit, so the sum may exceed
//     the budget by one part for each account. Output of functions can't be refused, so it may exceed the budget too; as long as it
//     does, accounts are granted only the credit for one part.
//   - Busy accounts share evenly the part of the budget that idle accounts don't use. One more share stays free for the next account that
//     becomes busy, so a single account gets half. An account is busy while it holds something, and after it has sent something until all
//     accounts together have sent as many rows as the budget has.
//   - An account gets only so far ahead of its parts as keeps its coordinator sending. It begins with little, and gets growth times as much
//     each time that it has used half of it, up to the share of a busy account. So flows that send a few rows now and then do not withhold
//     credit from a busy one. Accounts that were busy and are idle now do withhold some: if that is more than the budget divided by
//     aheadShares, the share of a busy account is counted as if all accounts were busy.
//
// Example: with a budget of 1,000 rows and two busy accounts each may use up to 333 rows.
//
// budget measures no time and starts no goroutine. Its methods may be called by several goroutines.
type budget struct {
	total amount // the whole budget; never changes

	mu       sync.Mutex
	accounts int               // number of open accounts
	busy     int               // number of busy accounts
	used     amount            // sum over all accounts of credit and held
	idle     amount            // the share of used that idle accounts have
	held     amount            // sum over all accounts
	sent     int64             // rows that all accounts have sent since the start
	recent   *list.List        // *account; the accounts that sent something lately, the latest last
	starved  map[*account]bool // accounts that got less credit than they could use
}

// account is the share of the budget that one flow of one coordinator uses. Its fields are guarded by the budget's lock.
type account struct {
	budget *budget
	wake   func()        // makes the owner call grant again; must not block
	left   amount        // credit that is not used; below zero when the last part overdrew it
	held   amount        // parts and results in this worker
	part   amount        // size of the last part
	ahead  amount        // how much it may get ahead of its parts, as its use of credit shows; zero at first and after it was idle
	sent   int64         // budget.sent when this account last sent something
	recent *list.Element // place in budget.recent; nil when it is not there
	closed bool          // close was called: it gets no credit any more

	output *outputAccount // this account's share of the memory for output; set when the account is opened
}

// holdOutput adds bytes of output of functions to the account and to its share of the output memory. The coordinator needs no
// credit for output. made says that this output is counted for the first time, so that it changes the estimate of the next
// run's output.
func (a *account) holdOutput(bytes int64, made bool) {
	a.hold(amount{bytes: bytes})
	a.output.hold(bytes, made)
}

// releaseOutput takes bytes of output off the account and off its share of the output memory.
func (a *account) releaseOutput(bytes int64) {
	a.release(amount{bytes: bytes})
	a.output.release(bytes)
}

// newBudget makes a budget of total rows and bytes, which has no accounts yet.
func newBudget(total amount) *budget {
	return &budget{total: total, recent: list.New(), starved: map[*account]bool{}}
}

// sums returns two sums over all accounts: the amounts that they use, and the part of these that the worker holds already.
func (b *budget) sums() (s struct{ used, held amount }) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s.used, s.held = b.used, b.held
	return s
}

// open adds an account, which has no credit yet. wake is called when a call of grant may give credit that an earlier call
// could not give.
func (b *budget) open(wake func()) *account {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.accounts++
	return &account{budget: b, wake: wake}
}

// uses returns how much of the budget the account takes: its unused credit and the amount that it holds. Overdrawn credit, which
// is below zero, counts as zero. The caller holds the lock.
func (a *account) uses() amount { return most(a.left, amount{}).plus(a.held) }

// busy reports whether the account holds something or has sent something lately. The caller holds the lock.
func (a *account) busy() bool { return a.recent != nil || !a.held.none() }

// change runs f, which alters the account, and keeps the sums right. If the account uses less afterwards, change wakes the
// accounts that got too little.
func (a *account) change(f func()) {
	wake := a.budget.change(a, f)
	for _, w := range wake {
		w.wake()
	}
}

// change does the part of account.change that needs the lock. It returns the accounts to wake, which happens without the lock.
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

// count adds an account to the budget's sums, or subtracts it if sign is -1. The caller holds the lock.
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

// forget ends the busy state of accounts that have sent nothing while all accounts together sent as many rows as the budget
// has. The caller holds the lock.
func (b *budget) forget() {
	for e := b.recent.Front(); e != nil; e = b.recent.Front() {
		a := e.Value.(*account)
		if b.sent-a.sent <= b.total.rows {
			return
		}
		b.count(a, -1)
		b.recent.Remove(e)
		a.recent, a.ahead = nil, amount{}
		b.count(a, 1)
	}
}

// spend turns credit into held rows and bytes, for a part that has come. It returns false, and changes nothing, if no credit
// was left. A part may be larger than the credit that was left; the credit is then below zero.
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

// skip takes the size of a part off the credit. It is for a part that came a second time, after a broken connection: the
// coordinator has used credit for it, but the worker does not hold it twice.
func (a *account) skip(part amount) { a.change(func() { a.left = a.left.minus(part) }) }

// hold adds an amount to the account's held amount without taking it from the credit. It is for output of functions and for
// results, which need no credit.
func (a *account) hold(n amount) { a.change(func() { a.held = a.held.plus(n) }) }

// release takes an amount off the account's held amount, because the coordinator has acknowledged it or the worker has thrown
// it away.
func (a *account) release(n amount) { a.change(func() { a.held = a.held.minus(n) }) }

// close takes back all credit for good. Held amounts stay counted until they are released.
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

// renew starts the credit of a new session. It returns the whole credit of the account: the coordinator has forgotten the
// credit of the session before. Parts that the coordinator sends again use this credit.
func (a *account) renew() (left amount) {
	a.change(func() {
		a.left = most(a.left, amount{})
		a.topUp()
		left = a.left
	})
	return left
}

// grant gives the account more credit where it is short of credit, and returns how much.
func (a *account) grant() (more amount) {
	a.change(func() { more = a.topUp() })
	return more
}

// topUp adds credit, as the policy of budget allows, and returns how much. change calls it while the account is not in the
// sums.
func (a *account) topUp() (more amount) {
	if a.closed {
		return amount{}
	}
	// The target is the credit that the account should have now: as much as it wants, but no more than the room allows.
	want := a.wants()
	target := least(want, most(a.left, amount{}).plus(a.room()))
	if a.held.none() {
		target = most(target, amount{1, 1}) // enough for one part of any size, which may overdraw it
	}
	if target.rows < want.rows || target.bytes < want.bytes {
		a.budget.starved[a] = true // change wakes the account when another one uses less
	}
	// Credit is granted in large steps, so that not every part is followed by a credit message, and never so little that no part
	// may be sent for it.
	half := target.over(2)
	if target.spent() || (a.left.rows > half.rows && a.left.bytes > half.bytes) {
		return amount{}
	}
	more = most(target.minus(a.left), amount{})
	a.left = a.left.plus(more)
	return more
}

// wants returns how much credit the account should have ahead of its parts. It raises a.ahead if the account has used half of that.
func (a *account) wants() amount {
	b := a.budget
	begin := least(b.total.over(aheadShares*int64(b.accounts)), b.total.over(idleShares))
	want := begin
	if a.busy() {
		sharing := int64(b.accounts)
		withheld := b.idle.minus(amount{begin.rows * sharing, begin.bytes * sharing})
		if most := b.total.over(aheadShares); withheld.rows <= most.rows && withheld.bytes <= most.bytes {
			sharing = int64(b.busy) + 1 // change has taken this account out of the number
		}
		a.ahead = most(a.ahead, begin)
		if half := a.ahead.over(2); a.left.rows <= half.rows || a.left.bytes <= half.bytes {
			a.ahead = amount{growth * a.ahead.rows, growth * a.ahead.bytes}
		}
		a.ahead = least(a.ahead, b.total.over(aheadShares*sharing))
		want = a.ahead
	}
	return least(most(want, amount{1, 1}), amount{maxCredit, maxCredit})
}

// room returns how much more the account may use. It is zero where a part like the last one would not fit.
func (a *account) room() amount {
	b := a.budget
	free := b.total.minus(b.used).minus(a.uses())
	if a.busy() {
		share := b.total.minus(b.idle).over(int64(b.busy) + 2) // this account, the other busy ones, and the next one
		free = least(free, share.minus(a.uses()))
	}
	if free.rows < a.part.rows || free.bytes < a.part.bytes {
		return amount{}
	}
	return most(free, amount{})
}
