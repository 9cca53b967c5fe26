package deadletter_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	goredis "github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/kisgrid/kisgrid/internal/testprocess"
	"github.com/kisgrid/kisgrid/internal/world/simredis"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/deadletter"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// servers start each kind of Redis that the store must work on, and return its address.
var servers = map[string]func(*testing.T, ...string) string{"redis-server": realRedis, "embedded": embeddedRedis, "simulated": simulatedRedis}

// embeddedRedis starts a Redis in the test's process.
func embeddedRedis(t *testing.T, _ ...string) string { return miniredis.RunT(t).Addr() }

// simulatedRedis starts a simulated Redis in the test's process.
func simulatedRedis(t *testing.T, _ ...string) string {
	var address string
	s, err := simredis.Start(t.Context(), simredis.Config{Listen: func(ctx context.Context) (net.Listener, error) {
		l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
		if err == nil {
			address = l.Addr().String()
		}
		return l, err
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return address
}

// realRedis starts a redis-server, or skips the test where none is installed.
func realRedis(t *testing.T, args ...string) string {
	address := testprocess.Address(t)
	testprocess.StartRedis(t, address, nil, args...)
	return address
}

// onEach runs a test on each kind of server.
func onEach(t *testing.T, test func(t *testing.T, address string)) {
	for name, start := range servers {
		t.Run(name, func(t *testing.T) { test(t, start(t)) })
	}
}

func open(t *testing.T, address string, change func(*deadletter.Config)) *deadletter.Store {
	t.Helper()
	c := deadletter.Config{URL: "redis://" + address}
	if change != nil {
		change(&c)
	}
	s, err := deadletter.Open(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

var stream = batch.StreamID{1, 2, 3}

// letter is the n-th one of a flow.
func letter(flow string, n int) *deadletter.Letter {
	row := batch.RowID{Batch: batch.ID{Stream: stream, Sequence: uint64(n + 1)}, Row: 7}
	return &deadletter.Letter{
		ID: deadletter.NewID(flow, row, 0, 0, "Save", 0), Sequence: 1, Flow: flow, Revision: 12, Function: "Save",
		Code: batch.CodeSaveFailed, Reason: "WRONGTYPE", Attempts: 2, Row: fmt.Appendf(nil, `{"n":%d}`, n),
		Origin: row, ShardKey: "n", Key: 1<<63 + uint64(n),
	}
}

func letters(flow string, first, end int) (all []*deadletter.Letter) {
	for n := first; n < end; n++ {
		all = append(all, letter(flow, n))
	}
	return all
}

// keep keeps letters that there must be room for.
func keep(t *testing.T, s *deadletter.Store, all ...*deadletter.Letter) {
	t.Helper()
	kept, err := s.Keep(t.Context(), all[0].Flow, all)
	if err != nil {
		t.Fatal(err)
	}
	for i, ok := range kept {
		if !ok {
			t.Fatalf("letter %d is not kept", i)
		}
	}
}

// list reads all letters in pages.
func list(t *testing.T, s *deadletter.Store, flow string, page int) (all []*deadletter.Letter) {
	t.Helper()
	for after := ""; ; {
		some, next, err := s.Page(t.Context(), flow, after, "", page)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, some...)
		if next == "" {
			return all
		}
		after = next
	}
}

var whatIsSaid = cmp.Options{cmpopts.IgnoreUnexported(deadletter.Letter{}), cmpopts.IgnoreFields(deadletter.Letter{}, "Kept", "Begun"), cmp.Comparer(bytes.Equal)}

func expect(t *testing.T, got, want []*deadletter.Letter) {
	t.Helper()
	if diff := cmp.Diff(want, got, whatIsSaid); diff != "" {
		t.Errorf("the letters differ (-want +got):\n%s", diff)
	}
}

// TestKeptInOrder keeps letters of several encodings, some twice, and reads them page by page.
func TestKeptInOrder(t *testing.T) {
	onEach(t, func(t *testing.T, address string) {
		s := open(t, address, nil)
		all := letters("F", 0, 25)
		all[3].Row, all[3].Encoding = []byte{0xff, 0, 0x80}, batch.Protobuf
		all[4].Row = []byte("no JSON \" at all")
		all[5].Row = []byte{}
		keep(t, s, all[:20]...)
		keep(t, s, all[15:]...) // a rerun brings five of them again
		keep(t, s, letter("G", 0))
		expect(t, list(t, s, "F", 7), all)
		expect(t, list(t, s, "F", 25), all)
		found, rest, err := s.Get(t.Context(), "F", all[3].ID, batch.StreamID{9}, all[24].ID)
		if err != nil || len(rest) > 0 {
			t.Fatalf("%d ids are left, %v", len(rest), err)
		}
		expect(t, found, []*deadletter.Letter{all[3], all[24]})
		if flows, err := s.Flows(t.Context()); err != nil || !cmp.Equal(flows, []string{"F", "G"}) {
			t.Errorf("the flows are %v, %v", flows, err)
		}
		for _, l := range found {
			if since := time.Since(l.Kept); since < -time.Minute || since > time.Minute {
				t.Errorf("a letter was kept %v ago", since)
			}
		}
	})
}

// TestPagesAreBounded reads letters of which 8 MiB hold three, and one that is over that alone.
func TestPagesAreBounded(t *testing.T) {
	onEach(t, func(t *testing.T, address string) {
		s := open(t, address, nil)
		all := letters("F", 0, 8)
		for i, l := range all {
			l.Row = bytes.Repeat([]byte{'0' + byte(i)}, 5<<19)
		}
		all[4].Row = bytes.Repeat([]byte{'x'}, 9<<20)
		for _, l := range all {
			keep(t, s, l)
		}
		var pages []int
		for after := ""; ; {
			some, next, err := s.Page(t.Context(), "F", after, "", 200)
			if err != nil {
				t.Fatal(err)
			}
			if next == "" {
				break
			}
			pages, after = append(pages, len(some)), next
		}
		if !cmp.Equal(pages, []int{3, 1, 1, 3}) {
			t.Errorf("the pages have %v letters", pages)
		}
		expect(t, list(t, s, "F", 200), all)

		// Those that are asked for by their ids come in the same pages, in the order of the ids.
		slices.Reverse(all)
		ids := []batch.StreamID{{8}}
		for _, l := range all {
			ids = append(ids, l.ID)
		}
		ids = append(ids, batch.StreamID{9})
		pages = nil
		var found []*deadletter.Letter
		for len(ids) > 0 {
			some, rest, err := s.Get(t.Context(), "F", ids...)
			if err != nil {
				t.Fatal(err)
			}
			pages, found, ids = append(pages, len(some)), append(found, some...), rest
		}
		if !cmp.Equal(pages, []int{3, 1, 3, 1}) {
			t.Errorf("the letters came by id in pages of %v", pages)
		}
		expect(t, found, all)
	})
}

// TestManyIDs finds more letters than one script looks at.
func TestManyIDs(t *testing.T) {
	onEach(t, func(t *testing.T, address string) {
		s := open(t, address, nil)
		all := letters("F", 0, 700)
		keep(t, s, all...)
		var ids []batch.StreamID
		for _, l := range all {
			ids = append(ids, l.ID)
		}
		found, rest, err := s.Get(t.Context(), "F", ids...)
		if err != nil || len(rest) != 200 {
			t.Fatalf("%d ids are left, %v", len(rest), err)
		}
		more, rest, err := s.Get(t.Context(), "F", rest...)
		if err != nil || len(rest) != 0 {
			t.Fatalf("%d ids are left, %v", len(rest), err)
		}
		expect(t, append(found, more...), all)
	})
}

// TestFull refuses letters over the limit, counts them, and keeps letters again once there is room.
func TestFull(t *testing.T) {
	onEach(t, func(t *testing.T, address string) {
		s := open(t, address, func(c *deadletter.Config) { c.Max = 10 })
		kept, err := s.Keep(t.Context(), "F", letters("F", 0, 13))
		if err != nil || len(kept) != 13 || kept[9] != true || kept[10] || kept[12] {
			t.Fatalf("kept %v, %v", kept, err)
		}
		keep(t, s, letter("F", 4)) // it is there already
		keep(t, s, letter("F", 5), letter("F", 5))
		if n, err := s.Drop(t.Context(), "F", letters("F", 0, 2)); n != 2 || err != nil {
			t.Fatalf("dropped %d, %v", n, err)
		}
		keep(t, s, letters("F", 10, 12)...)
		status, err := s.Status(t.Context(), "F")
		want := deadletter.Status{Flow: "F", Letters: 10, Max: 10, MaxAge: deadletter.DefaultMaxAge, Refused: 3}
		if err != nil || status != want {
			t.Errorf("the status is %+v, %v; want %+v", status, err, want)
		}
	})
}

// TestFullIsRemembered remembers that a flow has no room until somebody drops letters, and counts letters that were refused without asking
// Redis.
func TestFullIsRemembered(t *testing.T) {
	onEach(t, func(t *testing.T, address string) {
		s := open(t, address, func(c *deadletter.Config) { c.Max = 3 })
		keep(t, s, letters("F", 0, 3)...)
		if s.Full("F") {
			t.Fatal("the flow counts as full before a letter was refused")
		}
		if kept, err := s.Keep(t.Context(), "F", letters("F", 2, 4)); err != nil || !kept[0] || kept[1] {
			t.Fatalf("kept %v, %v", kept, err)
		}
		if !s.Full("F") || s.Full("G") {
			t.Fatal("the flow that is full is not remembered, or another one is")
		}
		s.Refuse("F", 5)
		status, err := s.Status(t.Context(), "F")
		if err != nil || status.Refused != 6 || status.Letters != 3 {
			t.Fatalf("the status is %+v, %v", status, err)
		}
		if _, err := s.Drop(t.Context(), "F", letters("F", 0, 1)); err != nil {
			t.Fatal(err)
		}
		if s.Full("F") {
			t.Error("the flow counts as full after a letter was dropped")
		}
		s.Refuse("F", 2)
		again := open(t, address, nil)
		for deadline := time.Now().Add(20 * time.Second); ; {
			status, err := again.Status(t.Context(), "F")
			if err != nil {
				t.Fatal(err)
			}
			if status.Refused == 8 {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("another process sees the status %+v", status)
			}
			time.Sleep(20 * time.Millisecond) // Redis gives no signal
		}
	})
}

// TestDroppedStaysDropped does not keep a row again that runs once more after its letter was dealt with.
func TestDroppedStaysDropped(t *testing.T) {
	onEach(t, func(t *testing.T, address string) {
		s := open(t, address, nil)
		keep(t, s, letters("F", 0, 3)...)
		if n, err := s.Drop(t.Context(), "F", letters("F", 0, 2)); n != 2 || err != nil {
			t.Fatalf("dropped %d, %v", n, err)
		}
		keep(t, s, letters("F", 0, 3)...)
		expect(t, list(t, s, "F", 10), letters("F", 2, 3))
		if n, err := s.Drop(t.Context(), "F", letters("F", 0, 1)); n != 0 || err != nil {
			t.Errorf("dropped %d that were gone, %v", n, err)
		}
	})
}

// TestOldLettersExpire forgets letters by age, changed ones too, and counts them.
func TestOldLettersExpire(t *testing.T) {
	onEach(t, func(t *testing.T, address string) {
		long := open(t, address, nil)
		keep(t, long, letters("F", 0, 3)...)
		child := letter("F", 100)
		if err := long.Settle(t.Context(), "F", []deadletter.Settlement{{ID: letter("F", 1).ID, Stay: []*deadletter.Letter{child}}}); err != nil {
			t.Fatal(err)
		}
		short := open(t, address, func(c *deadletter.Config) { c.MaxAge = time.Millisecond })
		deadline := time.Now().Add(10 * time.Second)
		for {
			status, err := short.Status(t.Context(), "F")
			if err != nil {
				t.Fatal(err)
			}
			if status.Expired == 3 && status.Letters == 0 {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("the status is %+v", status)
			}
		}
		if found, _, err := long.Get(t.Context(), "F", child.ID, letter("F", 0).ID); len(found) != 0 || err != nil {
			t.Errorf("found %d letters, %v", len(found), err)
		}
	})
}

// TestSettle ends letters, lets one die again in its place, and puts others in the place of one.
func TestSettle(t *testing.T) {
	onEach(t, func(t *testing.T, address string) {
		s := open(t, address, nil)
		all := letters("F", 0, 5)
		keep(t, s, all...)
		begun, err := s.Begin(t.Context(), "F", append(letters("F", 0, 4), letter("F", 99)))
		if err != nil {
			t.Fatal(err)
		}
		if len(begun) != 4 || begun[0].Begun.IsZero() {
			t.Fatalf("%d redrives begin, the first at %v", len(begun), begun[0].Begun)
		}
		again := letter("F", 1)
		again.Redrives, again.Reason = 1, "still bad"
		x, y := letter("F", 50), letter("F", 51)
		x.Function, y.Function = "Later", "Later"
		if err := s.Settle(t.Context(), "F", []deadletter.Settlement{
			{ID: all[0].ID},
			{ID: all[1].ID, Stay: []*deadletter.Letter{again}},
			{ID: all[2].ID, Stay: []*deadletter.Letter{x, y}},
			{ID: letter("F", 99).ID, Stay: []*deadletter.Letter{letter("F", 98)}}, // dropped meanwhile
		}); err != nil {
			t.Fatal(err)
		}
		got := list(t, s, "F", 2)
		expect(t, got, []*deadletter.Letter{again, x, all[3], all[4], y})
		for i, want := range []bool{false, false, true, false, false} {
			if cut := !got[i].Begun.IsZero(); cut != want {
				t.Errorf("a redrive of letter %d is under way: %v", i, cut)
			}
		}
		if found, _, err := s.Get(t.Context(), "F", x.ID, y.ID, all[2].ID); err != nil || len(found) != 2 {
			t.Errorf("found %d, %v", len(found), err)
		}
		// A redrive that begins again began when the first one did.
		first := begun[3].Begun
		if once, err := s.Begin(t.Context(), "F", letters("F", 3, 4)); err != nil || !once[0].Begun.Equal(first) {
			t.Errorf("it began %v, %v, not %v", once[0].Begun, err, first)
		}
		keep(t, s, all[0], all[2]) // late reruns
		if n := len(list(t, s, "F", 10)); n != 5 {
			t.Errorf("there are %d letters", n)
		}
	})
}

// TestEdit replaces rows. It refuses a row that is not JSON if the old one is, and an id without a letter.
func TestEdit(t *testing.T) {
	onEach(t, func(t *testing.T, address string) {
		s := open(t, address, nil)
		binary := letter("F", 1)
		binary.Encoding = batch.Protobuf
		keep(t, s, letter("F", 0), binary)
		ctx := t.Context()
		if _, err := s.Edit(ctx, "F", letter("F", 0).ID, []byte(`{"n":`)); batch.CodeOf(err) != batch.CodeRowUndecodable {
			t.Errorf("half an object is taken: %v", err)
		}
		if _, err := s.Edit(ctx, "F", letter("F", 9).ID, []byte(`{}`)); batch.CodeOf(err) != batch.CodeNotFound {
			t.Errorf("a letter that is not there is edited: %v", err)
		}
		if err := s.WithLock(ctx, "F", "me", func(ctx context.Context) error {
			if _, err := s.Edit(ctx, "F", letter("F", 0).ID, []byte(`{}`)); batch.CodeOf(err) != batch.CodeConflict {
				t.Errorf("edited while it is redriven: %v", err)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		for id, row := range map[batch.StreamID]string{letter("F", 0).ID: `{"n":5}`, binary.ID: "\xff"} {
			if _, err := s.Edit(ctx, "F", id, []byte(row)); err != nil {
				t.Error(err)
			}
		}
		if err := s.WithLock(ctx, "F", "me", nothing); err != nil {
			t.Errorf("after an edit the flow is held: %v", err)
		}
		want := []*deadletter.Letter{letter("F", 0), letter("F", 1)}
		want[0].Row, want[0].Edited, want[0].Sequence = []byte(`{"n":5}`), true, 2
		want[1].Row, want[1].Edited, want[1].Sequence, want[1].Encoding = []byte{0xff}, true, 2, batch.Protobuf
		expect(t, list(t, s, "F", 10), want)
	})
}

// TestEditsOneByOne loses no edit of a letter among others: each that is acknowledged makes it another batch.
func TestEditsOneByOne(t *testing.T) {
	onEach(t, func(t *testing.T, address string) {
		s := open(t, address, nil)
		keep(t, s, letter("F", 0))
		var all sync.WaitGroup
		var edited atomic.Uint64
		for n := range 16 {
			all.Go(func() {
				switch _, err := s.Edit(t.Context(), "F", letter("F", 0).ID, fmt.Appendf(nil, `{"n":%d}`, n)); batch.CodeOf(err) {
				case 0:
					edited.Add(1)
				case batch.CodeConflict:
				default:
					t.Error(err)
				}
			})
		}
		all.Wait()
		if l := list(t, s, "F", 10); len(l) != 1 || l[0].Sequence != 1+edited.Load() {
			t.Errorf("after %d edits there are %+v", edited.Load(), l)
		}
	})
}

// TestMany keeps more than one script takes.
func TestMany(t *testing.T) {
	onEach(t, func(t *testing.T, address string) {
		s := open(t, address, nil)
		all := letters("F", 0, 1300)
		for _, l := range all[:3] {
			l.Row = []byte(`"` + strings.Repeat("x", 2<<20) + `"`)
		}
		keep(t, s, all...)
		expect(t, list(t, s, "F", 100), all)
		if n, err := s.Drop(t.Context(), "F", all); n != 1300 || err != nil {
			t.Errorf("dropped %d, %v", n, err)
		}
		c := goredis.NewClient(&goredis.Options{Addr: address})
		defer c.Close()
		keys, err := c.Keys(t.Context(), "*").Result()
		if err != nil {
			t.Fatal(err)
		}
		for _, key := range keys {
			if strings.HasSuffix(key, ":changes") || strings.HasSuffix(key, ":index") || strings.HasSuffix(key, ":begun") {
				t.Errorf("%s is left of letters that are gone", key)
			}
		}
	})
}

// TestAway says that the store is away, and within its timeout.
func TestAway(t *testing.T) {
	silent, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	gone, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = gone.Close()
	for _, address := range []string{silent.Addr().String(), gone.Addr().String()} {
		s := open(t, address, func(c *deadletter.Config) { c.Timeout = 100 * time.Millisecond })
		if kept, err := s.Keep(t.Context(), "F", letters("F", 0, 2)); batch.CodeOf(err) != batch.CodeUnavailable || len(kept) != 0 {
			t.Errorf("kept %v, %v", kept, err)
		}
		if _, err := s.Ping(t.Context()); batch.CodeOf(err) != batch.CodeUnavailable || !strings.Contains(err.Error(), address) {
			t.Errorf("it is there: %v", err)
		}
	}
}

// TestSettings refuses settings that give a password away, and signs in with the password of a file.
func TestSettings(t *testing.T) {
	for name, c := range map[string]deadletter.Config{
		"a password":   {URL: "redis://me:secret@127.0.0.1:1"},
		"another kind": {URL: "http://127.0.0.1:1"},
		"nothing":      {URL: ""},
		"no file":      {URL: "redis://127.0.0.1:1", PasswordFile: filepath.Join(t.TempDir(), "none")},
	} {
		if _, err := deadletter.Open(c); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: got %v", name, err)
		}
	}
	address := realRedis(t, "--requirepass", "secret", "--maxmemory-policy", "allkeys-lru")
	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := open(t, address, func(c *deadletter.Config) { c.PasswordFile = file })
	keep(t, s, letter("F", 0))
	if warning, err := s.Ping(t.Context()); err != nil || !strings.Contains(warning, "allkeys-lru") {
		t.Errorf("the warning is %q, %v", warning, err)
	}
	if _, err := open(t, address, nil).Keep(t.Context(), "F", letters("F", 1, 2)); batch.CodeOf(err) != batch.CodeUnavailable {
		t.Errorf("kept without the password: %v", err)
	}
}

// TestWithPrefix finds letters by the beginnings of their ids, in a flow with more letters than one request looks at.
func TestWithPrefix(t *testing.T) {
	onEach(t, func(t *testing.T, address string) {
		s := open(t, address, nil)
		all := letters("F", 0, 1500)
		keep(t, s, all...)
		keep(t, s, letter("G", 0))
		for _, l := range []*deadletter.Letter{all[0], all[1499]} {
			for _, prefix := range []string{l.ID.String(), l.ID.String()[:12], strings.ToUpper(l.ID.String()[:12])} {
				ids, err := s.WithPrefix(t.Context(), "F", prefix, 2)
				if err != nil || !slices.Equal(ids, []batch.StreamID{l.ID}) {
					t.Errorf("%s finds %v, %v", prefix, ids, err)
				}
			}
		}
		some, err := s.WithPrefix(t.Context(), "F", "", 10)
		if err != nil || len(some) != 10 {
			t.Errorf("the empty prefix finds %d letters, %v", len(some), err)
		}
		for _, prefix := range []string{"*", "?0", "[0-9]", strings.Repeat("0", 32)} {
			if ids, err := s.WithPrefix(t.Context(), "F", prefix, 10); err != nil || len(ids) != 0 {
				t.Errorf("%s finds %v, %v", prefix, ids, err)
			}
		}
	})
}
