package worker

import (
	"testing"

	"pgregory.net/rapid"
)

// books are what a coordinator knows about one account, and what is behind its use of it.
type books struct {
	*account
	credit  amount   // as the coordinator counts it
	parts   []amount // held
	debts   []amount // by how much each part overdrew the credit
	results []amount // held
	woken   bool
}

func openBooks(b *budget) *books {
	k := &books{}
	k.account = b.open(func() { k.woken = true })
	k.take()
	return k
}

// take asks for credit, as a session's sender does when it is woken.
func (k *books) take() {
	k.woken = false
	k.credit = k.credit.plus(k.grant())
}

// send spends credit on a part.
func (k *books) send(part amount) bool {
	k.debts = append(k.debts, most(part.minus(most(k.left, amount{})), amount{}))
	k.parts = append(k.parts, part)
	k.credit = k.credit.minus(part)
	ok := k.spend(part)
	k.take()
	return ok
}

// finish releases the i-th part.
func (k *books) finish(i int) {
	part := k.parts[i]
	k.parts = append(k.parts[:i:i], k.parts[i+1:]...)
	k.debts = append(k.debts[:i:i], k.debts[i+1:]...)
	k.release(part)
	k.take()
}

func sum(of []amount) (total amount) {
	for _, a := range of {
		total = total.plus(a)
	}
	return total
}

// TestBudgetHolds drives the budget with coordinators that send what they may, in any order of events.
func TestBudgetHolds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		total := amount{rapid.Int64Range(8, 4096).Draw(t, "rows"), rapid.Int64Range(8, 4096).Draw(t, "bytes")}
		largest := amount{rapid.Int64Range(1, total.rows).Draw(t, "part rows"), rapid.Int64Range(0, total.bytes).Draw(t, "part bytes")}
		b := newBudget(total)
		all := []*books{openBooks(b)} // one at least: rapid gives up where too few actions are possible
		var gone []*books             // closed while they held something
		pick := func(t *rapid.T, has func(*books) bool, from []*books) *books {
			var some []*books
			for _, k := range from {
				if has(k) {
					some = append(some, k)
				}
			}
			if len(some) == 0 {
				t.Skip("none")
			}
			return rapid.SampledFrom(some).Draw(t, "account")
		}
		drawPart := func(t *rapid.T) amount {
			return amount{rapid.Int64Range(1, largest.rows).Draw(t, "rows"), rapid.Int64Range(0, largest.bytes).Draw(t, "bytes")}
		}
		holdsParts := func(k *books) bool { return len(k.parts) > 0 }
		everybody := func() []*books { return append(append([]*books(nil), all...), gone...) }

		t.Repeat(map[string]func(*rapid.T){
			"open": func(t *rapid.T) { all = append(all, openBooks(b)) },
			"send": func(t *rapid.T) {
				k := pick(t, func(k *books) bool { return !k.credit.spent() }, all)
				if !k.send(drawPart(t)) {
					t.Fatal("a part that the credit allowed was refused")
				}
			},
			"send again what the worker has": func(t *rapid.T) {
				k := pick(t, func(k *books) bool { return !k.credit.spent() }, all)
				part := drawPart(t)
				k.credit = k.credit.minus(part)
				k.skip(part)
				k.take()
			},
			"finish": func(t *rapid.T) {
				k := pick(t, holdsParts, everybody())
				k.finish(rapid.IntRange(0, len(k.parts)-1).Draw(t, "part"))
			},
			"result": func(t *rapid.T) {
				k := pick(t, holdsParts, everybody())
				size := amount{bytes: rapid.Int64Range(1, 2*total.bytes).Draw(t, "size")}
				k.results = append(k.results, size)
				k.hold(size)
			},
			"acknowledge": func(t *rapid.T) {
				k := pick(t, func(k *books) bool { return len(k.results) > 0 }, everybody())
				k.release(k.results[0])
				k.results = k.results[1:]
				k.take()
			},
			"new session": func(t *rapid.T) {
				k := pick(t, func(*books) bool { return true }, all)
				k.credit = k.renew()
			},
			"close": func(t *rapid.T) {
				k := pick(t, func(*books) bool { return len(all) > 1 }, all)
				k.close()
				for i := range all {
					if all[i] == k {
						all = append(all[:i:i], all[i+1:]...)
						break
					}
				}
				if !k.held.none() {
					gone = append(gone, k)
				}
			},
			"": func(t *rapid.T) {
				for again := true; again; {
					again = false
					for _, k := range everybody() {
						if k.woken {
							k.take()
							again = true
						}
					}
				}
				var used, held, excess amount
				for _, k := range everybody() {
					if want := sum(k.parts).plus(sum(k.results)); k.held != want {
						t.Fatalf("an account holds %v, want %v", k.held, want)
					}
					used, held = used.plus(k.uses()), held.plus(k.held)
					excess = excess.plus(sum(k.debts)).plus(sum(k.results)).plus(amount{1, 1})
				}
				if s := b.sums(); s.used != used || s.held != held {
					t.Fatalf("the budget counts %v used and %v held, the accounts %v and %v", s.used, s.held, used, held)
				}
				if limit := total.plus(excess); used.rows > limit.rows || used.bytes > limit.bytes {
					t.Fatalf("%v used of %v, with %v that grants don't account for", used, total, excess)
				}
				for _, k := range all {
					if k.credit != k.left {
						t.Fatalf("the coordinator counts a credit of %v, the worker of %v", k.credit, k.left)
					}
					if k.held.none() && k.left.spent() {
						t.Fatalf("an account that holds nothing may send nothing: %v", k.left)
					}
					if len(k.debts) > 0 && !most(sum(k.debts).minus(largest), amount{}).none() && len(k.parts) == 1 {
						t.Fatalf("one part overdrew by %v, more than a part", sum(k.debts))
					}
				}
			},
		})
	})
}

// saturate lets every account send all that it may and finishes the oldest parts in turn, until nothing changes any more.
func saturate(accounts []*books, part amount, rounds int) {
	for range rounds {
		for _, k := range accounts {
			for !k.credit.spent() {
				k.send(part)
			}
		}
		for _, k := range accounts {
			if len(k.parts) > 0 {
				k.finish(0)
			}
		}
		for _, k := range accounts {
			if k.woken {
				k.take()
			}
		}
	}
}

func TestBudgetIsSharedEvenly(t *testing.T) {
	total := amount{1 << 18, 64 << 20}
	part := amount{1000, 50_000}
	for _, n := range []int{1, 2, 3, 16, 64} {
		b := newBudget(total)
		var accounts []*books
		for range n {
			accounts = append(accounts, openBooks(b))
			saturate(accounts, part, 20) // the first ones have all they can get when the next comes
		}
		saturate(accounts, part, 300)
		share := total.over(int64(n) + 1)
		for i, k := range accounts {
			if got := k.uses().rows; got < share.rows-2*part.rows || got > share.rows {
				t.Errorf("%d accounts: number %d uses %d rows, its share is %d", n, i, got, share.rows)
			}
		}
	}
}

func TestQuietAccountsKeepLittle(t *testing.T) {
	total := amount{1 << 18, 64 << 20}
	b := newBudget(total)
	for range 64 { // each in turn has the worker for itself, then goes quiet
		k := openBooks(b)
		saturate([]*books{k}, amount{1000, 50_000}, 100)
		for len(k.parts) > 0 {
			k.finish(0)
		}
	}
	k := openBooks(b)
	saturate([]*books{k}, amount{1000, 50_000}, 100)
	if got, want := k.uses().rows, total.rows/8; got < want {
		t.Errorf("after 64 quiet accounts the next gets %d rows of %d, want at least %d", got, total.rows, want)
	}
}

func TestNoFlowStarvesWhileOthersAreStuck(t *testing.T) {
	b := newBudget(amount{1000, 1000})
	part := amount{10, 10}
	stuck := []*books{openBooks(b), openBooks(b), openBooks(b), openBooks(b), openBooks(b), openBooks(b), openBooks(b), openBooks(b)}
	for more := true; more; { // none of their parts ever ends
		more = false
		for _, k := range stuck {
			if !k.credit.spent() {
				k.send(part)
				more = true
			}
		}
	}
	k := openBooks(b)
	for i := range 100 {
		if !k.send(part) {
			t.Fatalf("part %d was refused", i)
		}
		for len(k.parts) > 0 {
			k.finish(0)
		}
	}
}

func TestBudgetRefusesWhatIsOverdrawnTwice(t *testing.T) {
	b := newBudget(amount{1000, 1000})
	k := openBooks(b)
	first := amount{5000, 10}
	if !k.spend(first) {
		t.Fatal("a credit may be overdrawn by one part")
	}
	if k.spend(amount{1, 1}) {
		t.Error("a second part was taken on an overdrawn credit")
	}
	if more := k.grant(); !more.none() {
		t.Errorf("%v granted while the account uses more than its share", more)
	}
	k.release(first)
	k.take()
	if k.left.spent() {
		t.Errorf("no credit after all was released: %v", k.left)
	}
}

// TestCreditFollowsUse gives a busy account as much credit beside many idle ones, each of which has sent a row once, as it has alone.
func TestCreditFollowsUse(t *testing.T) {
	alone := newBudget(wideBudget)
	one := openBooks(alone)
	for range 1000 {
		one.send(amount{100, 5000})
		one.finish(0)
	}
	crowded := newBudget(wideBudget)
	for range 1000 {
		idle := openBooks(crowded)
		idle.send(amount{1, 50})
		idle.finish(0)
	}
	busy := openBooks(crowded)
	least := busy.credit
	for range 10000 {
		busy.send(amount{100, 5000})
		busy.finish(0)
		least = busy.credit
	}
	if 2*least.rows < one.credit.rows || 2*least.bytes < one.credit.bytes {
		t.Errorf("beside idle accounts the busy one has credit %v, alone it has %v", least, one.credit)
	}
	idle := openBooks(crowded)
	for range 5 {
		idle.send(amount{2000, 50000})
		idle.finish(0)
	}
	if 4*idle.credit.rows < one.credit.rows {
		t.Errorf("an account that wakes has credit %v after five parts, alone it has %v", idle.credit, one.credit)
	}
}
