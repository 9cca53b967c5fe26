package world

import (
	"context"
	"fmt"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/kisgrid/kisgrid/internal/world/forms"
	"github.com/kisgrid/kisgrid/internal/world/history"
	"github.com/kisgrid/kisgrid/pkg/definition"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// end notes what is left, stops everything in order, and notes what is left then.
func (w *world) end() {
	w.mu.Lock()
	w.closing = true
	w.mu.Unlock()
	final := w.look()
	time.Sleep(time.Millisecond) // so that everything that follows happened later than that look
	w.stopProcesses()
	for _, n := range w.everyLife() {
		<-n.done
		for _, text := range n.left {
			final.ConnsAfter = append(final.ConnsAfter, history.Conn{From: n.setting.Name, To: text})
		}
	}
	time.Sleep(w.longestLease() + 2*time.Second) // keys of killed processes go with their leases
	final.EtcdAfter = w.keys()
	w.must(w.put.Close())
	w.operator.Kill()
	w.noteDocuments()
	stores := w.stores()
	w.must(w.etcd.Close())
	w.redis.Close()
	w.cancel()
	w.tasks.Wait()
	time.Sleep(time.Minute) // for timers that were not stopped
	final.Goroutines = leftGoroutines()
	w.rec.Finished(final, stores)
}

// everyLife returns every life of a process so far.
func (w *world) everyLife() []*process {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.all)
}

// longestLease returns the longest lease of a process.
func (w *world) longestLease() time.Duration {
	longest := 10 * time.Second
	for _, n := range w.everyLife() {
		longest = max(longest, n.setting.Lease)
	}
	return longest
}

// look notes what is there before anything is stopped.
func (w *world) look() *history.Final {
	final := &history.Final{At: w.rec.Now(), Etcd: w.keys(), Leases: len(w.etcd.Leases()), Snaps: map[string]history.Snap{}}
	for _, n := range w.living() {
		n.registered()
		for _, open := range n.net.Open() {
			final.Conns = append(final.Conns, history.Conn{From: n.setting.Name, To: open})
		}
		if n.metrics == nil {
			continue
		}
		samples, err := gather(n.metrics)
		if err != nil {
			w.note(n.setting.Name, "gather: %v", err)
		}
		final.Snaps[n.setting.Name] = history.Snap{At: w.rec.Now(), Metrics: samples}
		w.rec.Snapped(n.life, samples)
	}
	final.Explains = w.explain()
	return final
}

// explain asks each coordinator where the rows of two keys of each flow are.
func (w *world) explain() []history.Explain {
	var all []history.Explain
	for _, p := range w.coordinatorParties {
		n := w.present(p)
		if n == nil || n.ended() {
			continue
		}
		err := w.admin(w.operator, w.addressOf(p), "explain all", p.setting.Name, 20*time.Second, func(ctx context.Context, a pb.AdminClient) (string, error) {
			for _, f := range w.s.Flows {
				if !forms.Of(f.Form).Sharded {
					continue
				}
				for _, key := range []string{"k0", "k1"} {
					e := history.Explain{Coordinator: p.setting.Name, Flow: f.Name, Key: key}
					r, err := a.Explain(ctx, &pb.ExplainRequest{Flow: f.Name, Key: `"` + key + `"`, Rows: true, Most: 5})
					if err != nil {
						return f.Name, err
					}
					e.Worker, e.Reason, e.Places = r.GetWorker(), r.GetReason(), len(r.GetRows())
					if r.GetError() != nil {
						e.Code = r.GetError().GetCode().String()
					}
					all = append(all, e)
				}
			}
			return fmt.Sprintf("%d answers", len(all)), nil
		})
		if err != nil {
			w.note(p.setting.Name, "explain: %v", err)
		}
	}
	return all
}

// stopProcesses drains coordinators, and then workers.
func (w *world) stopProcesses() {
	w.mu.Lock()
	twins := slices.Clone(w.twins)
	w.mu.Unlock()
	for _, t := range twins {
		t.kill()
	}
	for _, kind := range []history.Kind{history.Coordinator, history.Worker} {
		var drains sync.WaitGroup
		for _, n := range w.living() {
			if n.life.Kind == kind {
				drains.Go(n.drain)
			}
		}
		drains.Wait()
	}
}

// keys returns all keys in etcd under KisGrid's prefix, without it.
func (w *world) keys() map[string]history.EtcdKey {
	all := map[string]history.EtcdKey{}
	for _, kv := range w.etcd.List("/kisgrid/") {
		key, _ := dropPrefix(string(kv.GetKey()))
		all[key] = history.EtcdKey{Value: string(kv.GetValue()), Revision: kv.GetModRevision(), Lease: kv.GetLease()}
	}
	return all
}

// restored notes the documents with which etcd came back from a snapshot.
func (w *world) restored() {
	lives, _ := w.etcd.Life()
	for _, kv := range w.etcd.List("/kisgrid/config/") {
		d := documentOf(string(kv.GetKey()), kv.GetValue())
		d.At, d.Epoch, d.Revision, d.Restored = w.rec.Now(), lives, kv.GetModRevision(), true
		w.mu.Lock()
		w.back = append(w.back, d)
		w.mu.Unlock()
	}
}

// noteDocuments notes every write of a document that etcd took.
func (w *world) noteDocuments() {
	w.mu.Lock()
	all := slices.Clone(w.back)
	w.mu.Unlock()
	now := time.Now()
	for _, c := range w.etcd.Journal() {
		if !strings.HasPrefix(c.Key, "/kisgrid/config/") {
			continue
		}
		d := documentOf(c.Key, c.Value)
		d.At, d.Epoch, d.Revision, d.Deleted = w.rec.Now()-now.Sub(c.At), c.Life, c.Revision, c.Deleted
		all = append(all, d)
	}
	slices.SortStableFunc(all, func(a, b history.Document) int {
		if a.Epoch != b.Epoch {
			return a.Epoch - b.Epoch
		}
		return int(a.At - b.At)
	})
	for _, d := range all {
		w.rec.Wrote(d)
	}
}

// markIn finds the mark in a document.
var markIn = regexp.MustCompile(`mark: ([a-z0-9]+)`)

// documentOf reads a document's key and value in etcd.
func documentOf(key string, value []byte) history.Document {
	kind, name, _ := strings.Cut(strings.TrimPrefix(key, "/kisgrid/config/"), "/")
	d := history.Document{Kind: string(definition.Kind(kind)), Name: name, YAML: string(value)}
	if m := markIn.FindSubmatch(value); m != nil {
		d.Mark = string(m[1])
	}
	return d
}

// stores returns what is in Redis, the flows' data and how much KisGrid keeps for itself, and what each worker's life had in memory.
func (w *world) stores() []history.Store {
	s := history.Store{
		Connector: forms.Store, Kind: "redis", Lists: map[string][]string{}, Hashes: map[string]map[string]string{}, Records: map[string]history.Record{},
	}
	for _, key := range w.redis.Keys(0) {
		name, ours := strings.CutPrefix(key, forms.KeyPrefix)
		if !ours {
			s.Records[key] = history.Record{TTL: w.redis.TTL(0, key).Seconds(), Fields: len(w.redis.Hash(0, key))}
			continue
		}
		if list := w.redis.List(0, key); len(list) > 0 {
			s.Lists[name] = list
		} else {
			s.Hashes[name] = w.redis.Hash(0, key)
		}
	}
	for _, write := range w.redis.Journal() {
		if write.Lost && write.Name == "RPUSH" {
			s.Lost = append(s.Lost, write.Args[1:]...)
		}
	}
	all := []history.Store{s}
	for _, n := range w.everyLife() {
		lists, hashes, ok := n.gate.held()
		if !ok {
			continue
		}
		m := history.Store{Connector: forms.Memory, Kind: "memory", Worker: n.setting.Name, Lists: map[string][]string{}, Hashes: map[string]map[string]string{}}
		for key, list := range lists {
			m.Lists[strings.TrimPrefix(key, forms.KeyPrefix)] = list
		}
		for key, hash := range hashes {
			m.Hashes[strings.TrimPrefix(key, forms.KeyPrefix)] = hash
		}
		all = append(all, m)
	}
	return all
}

// leftGoroutines returns the stacks of the goroutines of this bubble, apart from the calling one.
func leftGoroutines() []string {
	size := 1 << 20
	var dump string
	for {
		b := make([]byte, size)
		if n := runtime.Stack(b, true); n < size {
			dump = string(b[:n])
			break
		}
		size *= 2
	}
	stacks := strings.Split(dump, "\n\n")
	own := bubbleOf(stacks[0])
	var left []string
	for _, stack := range stacks[1:] {
		if own != "" && bubbleOf(stack) == own && !strings.Contains(stack, "testing/synctest.Test") && !strings.Contains(stack, "testing.testingSynctestTest") {
			left = append(left, stack)
		}
	}
	return left
}

// bubbleOf returns the name of the bubble in the first line of a stack, such as "synctest bubble 3".
func bubbleOf(stack string) string {
	line, _, _ := strings.Cut(stack, "\n")
	_, bubble, ok := strings.Cut(line, "synctest bubble ")
	if !ok {
		return ""
	}
	return strings.TrimRight(bubble, "]:")
}
