package simetcd_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/kisgrid/kisgrid/internal/bubble"
	"github.com/kisgrid/kisgrid/internal/world/simetcd"
)

// inBubble runs a test in virtual time, with a cluster and a client of each member.
func inBubble(t *testing.T, members int, f func(t *testing.T, e *simetcd.Etcd, all *clientv3.Client, each []*clientv3.Client)) {
	t.Helper()
	bubble.Test(t, func(t *testing.T) {
		e, all, here := start(t, members, simetcd.Config{})
		var each []*clientv3.Client
		for _, address := range e.Addresses() {
			each = append(each, connect(t, here, clientv3.Config{Endpoints: []string{address}}))
		}
		for _, c := range each {
			if _, err := c.Put(t.Context(), "first", "1"); err != nil {
				t.Fatal(err)
			}
		}
		f(t, e, all, each)
	})
}

// within returns a context that ends after a time.
func within(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// fails checks that an error has a code and says something.
func fails(t *testing.T, err error, code codes.Code, says string) {
	t.Helper()
	got := status.Code(err)
	if known := new(rpctypes.EtcdError); errors.As(err, known) {
		got = known.Code()
	} else if errors.Is(err, context.DeadlineExceeded) {
		got = codes.DeadlineExceeded // the client turns the status into the context's error
	}
	if got != code || !strings.Contains(fmt.Sprint(err), says) {
		t.Errorf("got %v (%v), want %v: %s", err, got, code, says)
	}
}

// TestElection leaves the cluster without a leader for a while: writes wait for the next one, reads wait and then fail, watches that
// require a leader end after three election timeouts, and leases begin anew.
func TestElection(t *testing.T) {
	inBubble(t, 3, func(t *testing.T, e *simetcd.Etcd, all *clientv3.Client, each []*clientv3.Client) {
		lease, err := all.Grant(t.Context(), 5)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := all.Put(t.Context(), "leased", "x", clientv3.WithLease(lease.ID)); err != nil {
			t.Fatal(err)
		}
		demanding := each[0].Watch(clientv3.WithRequireLeader(t.Context()), "k", clientv3.WithCreatedNotify())
		patient := each[1].Watch(t.Context(), "k", clientv3.WithCreatedNotify())
		<-demanding
		<-patient
		begun := time.Now()
		allow := e.LoseLeader()
		written, read := make(chan error, 1), make(chan error, 1)
		go func() {
			_, err := each[0].Put(within(t, time.Minute), "k", "v")
			written <- err
		}()
		go func() {
			_, err := each[1].Get(within(t, 3*time.Second), "k")
			read <- err
		}()
		fails(t, <-read, codes.DeadlineExceeded, "")
		if _, err := each[1].Get(t.Context(), "first", clientv3.WithSerializable()); err != nil {
			t.Errorf("a serializable read: %v", err)
		}
		end := <-demanding
		fails(t, end.Err(), codes.Unavailable, "no leader")
		if after := time.Since(begun); after < 3*time.Second || after > 4*time.Second {
			t.Errorf("the watch that requires a leader ended after %v", after)
		}
		time.Sleep(2 * time.Second)
		go func() {
			_, err := each[1].Get(within(t, time.Minute), "k")
			read <- err
		}()
		synctest.Wait()
		allow()
		if err := <-written; err != nil {
			t.Errorf("a write that waited for the election: %v", err)
		}
		fails(t, <-read, codes.Unavailable, "leader changed")
		if put := <-patient; len(put.Events) != 1 {
			t.Errorf("the watch shows %v", put)
		}
		left, err := all.TimeToLive(t.Context(), lease.ID)
		if err != nil || left.TTL < 5 {
			t.Errorf("of a lease of 5 s is left after the election: %v, %v", left, err)
		}
		time.Sleep(8 * time.Second)
		if got := e.List("leased"); len(got) != 0 {
			t.Errorf("after its lease there is still %v", got)
		}
	})
}

// TestMemberIsCutOff cuts a follower off from the others, and then the leader.
func TestMemberIsCutOff(t *testing.T) {
	inBubble(t, 3, func(t *testing.T, e *simetcd.Etcd, _ *clientv3.Client, each []*clientv3.Client) {
		watch := each[2].Watch(t.Context(), "k", clientv3.WithCreatedNotify())
		<-watch
		e.Cut("etcd-3")
		if _, err := each[0].Put(t.Context(), "k", "1"); err != nil {
			t.Errorf("a write of the others: %v", err)
		}
		got, err := each[2].Get(t.Context(), "k", clientv3.WithSerializable())
		if err != nil || len(got.Kvs) != 0 {
			t.Errorf("the member that is cut off has %v, %v", got, err)
		}
		_, err = each[2].Get(t.Context(), "k")
		fails(t, err, codes.Unavailable, "timed out")
		_, err = each[2].Put(within(t, time.Minute), "k", "2")
		fails(t, err, codes.Unavailable, "timed out")
		select {
		case a := <-watch:
			t.Errorf("its watch shows %v", a)
		default:
		}
		e.Heal("etcd-3")
		if a := <-watch; len(a.Events) != 1 || string(a.Events[0].Kv.Value) != "1" {
			t.Errorf("its watch shows %v afterwards", a)
		}
		e.Cut("etcd-1") // the leader
		begun := time.Now()
		if _, err := each[2].Put(t.Context(), "k", "3"); err != nil {
			t.Errorf("a write after the leader was cut off: %v", err)
		}
		if after := time.Since(begun); after < time.Second || after > 2*time.Second {
			t.Errorf("the next leader took %v", after)
		}
		e.Cut("etcd-2")
		_, err = each[2].Put(within(t, 4*time.Second), "k", "4")
		fails(t, err, codes.DeadlineExceeded, "")
	})
}

// TestLag lets a member fall behind: its watches show changes later, and its reads wait.
func TestLag(t *testing.T) {
	inBubble(t, 3, func(t *testing.T, e *simetcd.Etcd, _ *clientv3.Client, each []*clientv3.Client) {
		e.SetLag("etcd-2", 2*time.Second)
		watch := each[1].Watch(t.Context(), "k", clientv3.WithCreatedNotify())
		<-watch
		for _, value := range []string{"1", "2"} {
			if _, err := each[0].Put(t.Context(), "k", value); err != nil {
				t.Fatal(err)
			}
		}
		begun := time.Now()
		if got, err := each[1].Get(t.Context(), "k"); err != nil || string(got.Kvs[0].Value) != "2" || time.Since(begun) != 2*time.Second {
			t.Errorf("read %v, %v after %v", got, err, time.Since(begun))
		}
		for range 2 {
			if a := <-watch; len(a.Events) != 1 {
				t.Errorf("the watch shows %v", a)
			}
		}
		if after := time.Since(begun); after != 2*time.Second {
			t.Errorf("the changes came after %v", after)
		}
	})
}

// TestLostAnswers lets writes take effect without an answer, in all ways.
func TestLostAnswers(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, e *simetcd.Etcd, all *clientv3.Client, _ []*clientv3.Client) {
		for i, c := range []struct {
			fault simetcd.Fault
			code  codes.Code
			says  string
			took  bool
		}{
			{simetcd.Fault{Lose: simetcd.LoseSilently}, codes.DeadlineExceeded, "", true},
			{simetcd.Fault{Lose: simetcd.LoseByCut}, codes.Unavailable, "", true},
			{simetcd.Fault{Lose: simetcd.LoseByTimeout}, codes.Unavailable, "previous leader failure", true},
			{simetcd.Fault{Refuse: rpctypes.ErrGRPCTimeout}, codes.Unavailable, "timed out", false},
			{simetcd.Fault{Before: time.Minute}, codes.DeadlineExceeded, "", false},
			{simetcd.Fault{After: time.Minute}, codes.DeadlineExceeded, "", true},
		} {
			key := fmt.Sprint("k", i)
			calls := make(chan simetcd.Call, 1)
			end := e.OnCall(func(call simetcd.Call) simetcd.Fault {
				calls <- call
				return c.fault
			})
			_, err := all.Put(within(t, 20*time.Second), key, "v")
			fails(t, err, c.code, c.says)
			end()
			asked := <-calls
			if what := asked.Method + " at " + asked.Member + " by " + asked.Client; what != "Put at etcd-1 by here" {
				t.Errorf("it was asked about %s", what)
			}
			if took := len(e.List(key)) == 1; took != c.took {
				t.Errorf("%+v: it took effect: %v", c.fault, took)
			}
			if _, err := all.Put(t.Context(), "x"+key, "v"); err != nil {
				t.Errorf("after that: %v", err)
			}
		}
	})
}

// TestRestore sets etcd back to a snapshot, and then empties it.
func TestRestore(t *testing.T) {
	inBubble(t, 3, func(t *testing.T, e *simetcd.Etcd, all *clientv3.Client, _ []*clientv3.Client) {
		lease, err := all.Grant(t.Context(), 10)
		if err != nil {
			t.Fatal(err)
		}
		kept, err := all.Put(t.Context(), "kept", "1", clientv3.WithLease(lease.ID))
		if err != nil {
			t.Fatal(err)
		}
		snapshot := e.Snapshot()
		if _, err := all.Put(t.Context(), "lost", "1"); err != nil {
			t.Fatal(err)
		}
		if err := e.Restore(t.Context(), snapshot); err != nil {
			t.Fatal(err)
		}
		synctest.Wait() // so that the client knows that its connections are gone
		again, err := all.Put(t.Context(), "again", "1")
		if err != nil {
			t.Fatal(err)
		}
		if again.Header.Revision != kept.Header.Revision+1 || again.Header.ClusterId == kept.Header.ClusterId {
			t.Errorf("after the restore: %v, before: %v", again.Header, kept.Header)
		}
		if len(e.List("lost")) != 0 || len(e.List("kept")) != 1 {
			t.Errorf("after the restore there are %v", e.List(""))
		}
		time.Sleep(15 * time.Second)
		if len(e.List("kept")) != 0 {
			t.Error("a lease of the snapshot never ran out")
		}
		if err := e.Restore(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		first, err := all.Put(t.Context(), "first", "1")
		if err != nil || first.Header.Revision != 2 || len(e.List("")) != 1 {
			t.Errorf("after it was emptied: %v, %v, %v", first, err, e.List(""))
		}
		lives, revision := e.Life()
		if lives != 2 || revision != 2 {
			t.Errorf("it is at revision %d of life %d", revision, lives)
		}
		var written []string
		for _, c := range e.Journal() {
			written = append(written, fmt.Sprintf("%d/%d %s %v", c.Life, c.Revision, c.Key, c.Deleted))
		}
		if want := "0/2 first false, 0/3 first false, 0/4 first false, 0/5 kept false, 0/6 lost false, 1/6 again false, 1/7 kept true, 2/2 first false"; strings.Join(written, ", ") != want {
			t.Errorf("the journal has %s, want %s", strings.Join(written, ", "), want)
		}
	})
}

// TestFull fills the database: puts and leases fail, deletions and reads go, and so does everything once there is room again.
func TestFull(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, e *simetcd.Etcd, all *clientv3.Client, _ []*clientv3.Client) {
		lease, err := all.Grant(t.Context(), 10)
		if err != nil {
			t.Fatal(err)
		}
		e.Fill()
		_, err = all.Put(t.Context(), "k", "v")
		fails(t, err, codes.ResourceExhausted, "database space exceeded")
		_, err = all.Grant(t.Context(), 10)
		fails(t, err, codes.ResourceExhausted, "database space exceeded")
		_, err = all.Txn(t.Context()).Else(clientv3.OpPut("k", "v")).Commit()
		fails(t, err, codes.ResourceExhausted, "database space exceeded")
		if _, err := all.Txn(t.Context()).Then(clientv3.OpDelete("first"), clientv3.OpGet("k")).Commit(); err != nil {
			t.Errorf("a deletion: %v", err)
		}
		if _, err := all.KeepAliveOnce(t.Context(), lease.ID); err != nil {
			t.Errorf("a renewal: %v", err)
		}
		alarms, err := all.AlarmList(t.Context())
		if err != nil || len(alarms.Alarms) != 1 {
			t.Fatalf("alarms: %v, %v", alarms, err)
		}
		if _, err := all.AlarmDisarm(t.Context(), (*clientv3.AlarmMember)(alarms.Alarms[0])); err != nil {
			t.Fatal(err)
		}
		_, err = all.Put(t.Context(), "k", "v") // there is still no room
		fails(t, err, codes.ResourceExhausted, "database space exceeded")
		if _, err := all.Defragment(t.Context(), all.Endpoints()[0]); err != nil {
			t.Fatal(err)
		}
		_, err = all.Put(t.Context(), "k", "v") // the alarm is still on
		fails(t, err, codes.ResourceExhausted, "database space exceeded")
		if _, err := all.AlarmDisarm(t.Context(), (*clientv3.AlarmMember)(alarms.Alarms[0])); err != nil {
			t.Fatal(err)
		}
		if _, err := all.Put(t.Context(), "k", "v"); err != nil {
			t.Error(err)
		}
	})
}

// TestMembersStopAndStart stops the leader, then all members, and starts them again.
func TestMembersStopAndStart(t *testing.T) {
	inBubble(t, 3, func(t *testing.T, e *simetcd.Etcd, all *clientv3.Client, each []*clientv3.Client) {
		e.Stop("etcd-1")
		if _, err := all.Put(t.Context(), "k", "1"); err != nil {
			t.Errorf("a write without the leader: %v", err)
		}
		e.Stop("")
		_, err := each[1].Get(within(t, time.Second), "k")
		fails(t, err, codes.DeadlineExceeded, "")
		if err := e.Start(t.Context(), ""); err != nil {
			t.Fatal(err)
		}
		if _, err := each[0].Put(within(t, time.Minute), "k", "2"); err != nil {
			t.Errorf("a write after the restart: %v", err)
		}
		if got := e.List("k"); len(got) != 1 || got[0].Version != 2 {
			t.Errorf("after the restart there is %v", got)
		}
	})
}

// TestSlowReaderIsCompacted has a client not read its watch, while more is written than etcd keeps ready for it and then compacted. The
// watch ends, and says from where on it could go on.
func TestSlowReaderIsCompacted(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		e, client, here := start(t, 1, simetcd.Config{})
		script := newTranscript(t, connect(t, here, clientv3.Config{Endpoints: e.Addresses()}))
		w := script.watch()
		w.create(script, &pb.WatchCreateRequest{Key: []byte("k")})
		w.next(script)
		value := strings.Repeat("x", 10_000)
		const n = 2000 // more bytes than gRPC and the channel of the test hold
		for range n {
			if _, err := client.Put(t.Context(), "k", value); err != nil {
				t.Fatal(err)
			}
		}
		_, revision := e.Life()
		e.Compact(0)
		seen := int64(1)
		for {
			a := w.next(script)
			if a.Canceled {
				if a.CompactRevision != revision || seen >= revision-1 {
					t.Errorf("it ends with %v after revision %d", a, seen)
				}
				return
			}
			for _, event := range a.Events {
				if event.Kv.ModRevision != seen+1 {
					t.Fatalf("revision %d comes after %d", event.Kv.ModRevision, seen)
				}
				seen = event.Kv.ModRevision
			}
		}
	})
}
