package world

import (
	"bufio"
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/kisgrid/kisgrid/internal/redisfault"
	"github.com/kisgrid/kisgrid/internal/world/forms"
	"github.com/kisgrid/kisgrid/internal/world/history"
	"github.com/kisgrid/kisgrid/internal/world/scenario"
	"github.com/kisgrid/kisgrid/internal/world/simetcd"
	"github.com/kisgrid/kisgrid/internal/world/simredis"
)

// snapshotAt is a snapshot of etcd, with its time.
type snapshotAt struct {
	snapshot *simetcd.Snapshot
	at       time.Duration
}

// strikeEtcd makes a fault of etcd happen.
func (w *world) strikeEtcd(i int, f scenario.Fault) (end func(), note string) {
	switch f.Kind {
	case "etcd-election":
		return w.etcd.LoseLeader(), ""
	case "etcd-slow":
		w.etcd.SetDelay(w.s.Etcd.Delay + f.By)
		return func() { w.etcd.SetDelay(w.s.Etcd.Delay) }, ""
	case "etcd-restart":
		w.etcd.Stop("")
		return func() { w.must(w.etcd.Start(w.ctx, "")) }, ""
	case "etcd-restore":
		w.mu.Lock()
		s := w.snapshots[i]
		w.mu.Unlock()
		if s.snapshot == nil {
			return nil, "there is no snapshot"
		}
		w.rec.Lost(history.EtcdLost, "etcd", "restored from a snapshot", s.at)
		w.must(w.etcd.Restore(w.ctx, s.snapshot))
		w.restored()
	case "etcd-empty":
		w.rec.Lost(history.EtcdLost, "etcd", "begins anew, without data", 0)
		w.must(w.etcd.Restore(w.ctx, nil))
		w.setUser()
		w.at(w.rec.Now()+time.Duration(1+w.s.Rand(fmt.Sprint("again ", i)).IntN(8))*time.Second, w.putAll)
	case "etcd-full":
		w.etcd.Fill()
		return w.etcd.Drain, ""
	case "etcd-compact":
		w.etcd.Compact(0)
	case "etcd-expire":
		leases := w.etcd.Leases()
		ctx, cancel := context.WithTimeout(w.ctx, 5*time.Second)
		defer cancel()
		for _, id := range slices.Sorted(maps.Keys(leases)) {
			if _, err := w.put.Revoke(ctx, clientv3.LeaseID(id)); err != nil {
				note = err.Error()
			}
		}
		return nil, fmt.Sprintf("%d leases %s", len(leases), note)
	case "etcd-forget":
		p := w.partyOf(f.Who)
		if p == nil || w.present(p) == nil {
			return nil, "it does not run"
		}
		kind, id := "workers", w.present(p).id()
		if p.kind == history.Coordinator {
			kind = "coordinators"
		}
		w.etcd.Write(map[string][]byte{"/kisgrid/" + kind + "/" + id: nil})
		return nil, id
	case "etcd-lose", "etcd-refuse":
		return w.spoilCalls(i, f), ""
	case "etcd-member", "etcd-lag":
		return w.strikeMember(i, f)
	case "etcd-tokens":
		w.etcd.ForgetTokens()
	case "etcd-write":
		for n := range f.N {
			w.etcd.Write(map[string][]byte{fmt.Sprintf("/other/%d", n%50): fmt.Appendf(nil, "value %d", n)})
		}
	case "etcd-garbage":
		w.etcd.Write(map[string][]byte{
			"/kisgrid/workers/garbage": []byte("{"), "/kisgrid/coordinators/garbage": []byte("no JSON"), "/kisgrid/status/flow/Garbage": []byte("[]"),
			"/kisgrid/status/func/garbage": []byte("\xff"),
		})
	}
	return nil, note
}

// spoilCalls lets calls of processes to etcd go wrong, and returns the function that ends that.
func (w *world) spoilCalls(i int, f scenario.Fault) (end func()) {
	fault := map[string]simetcd.Fault{
		"etcd-lose ": {Lose: simetcd.LoseSilently}, "etcd-lose cut": {Lose: simetcd.LoseByCut}, "etcd-lose timeout": {Lose: simetcd.LoseByTimeout},
		"etcd-refuse ": {Refuse: rpctypes.ErrGRPCLeaderChanged}, "etcd-refuse timeout": {Refuse: rpctypes.ErrGRPCTimeout},
		"etcd-refuse busy": {Refuse: rpctypes.ErrGRPCRequestTooManyRequests},
	}[f.Kind+" "+f.Arg]
	var mu sync.Mutex
	rng := w.s.Rand(fmt.Sprint("etcd fault ", i))
	return w.etcd.OnCall(func(c simetcd.Call) simetcd.Fault {
		if w.partyOf(c.Client) == nil {
			return simetcd.Fault{} // a call of the world itself, which has to know what it has written
		}
		mu.Lock()
		defer mu.Unlock()
		if rng.IntN(1000) >= f.N {
			return simetcd.Fault{}
		}
		return fault
	})
}

// strikeMember makes a fault of one member of etcd happen.
func (w *world) strikeMember(i int, f scenario.Fault) (end func(), note string) {
	member := fmt.Sprintf("etcd-%d", 1+w.s.Rand(fmt.Sprint("etcd fault ", i)).IntN(max(1, w.s.Etcd.Members)))
	switch {
	case f.Kind == "etcd-lag":
		w.etcd.SetLag(member, f.By)
		return func() { w.etcd.SetLag(member, 0) }, member
	case f.Arg == "cut":
		w.etcd.Cut(member)
		return func() { w.etcd.Heal(member) }, member
	}
	w.etcd.Stop(member)
	return func() { w.must(w.etcd.Start(w.ctx, member)) }, member
}

// setUser gives etcd the user with which processes sign in, where the scenario has one.
func (w *world) setUser() {
	if w.s.Etcd.User != "" {
		w.etcd.AddUser(w.s.Etcd.User, etcdSecret)
	}
}

// putAll writes all documents again, as somebody does who has lost etcd's data.
func (w *world) putAll() {
	w.mu.Lock()
	docs := w.wantedLocked()
	w.mu.Unlock()
	if err := w.etcdctl(docs); err != nil {
		w.note("operator", "write all documents again: %v", err)
	}
}

// strikeRedis makes a fault of Redis happen.
func (w *world) strikeRedis(i int, f scenario.Fault) (end func(), note string) {
	r := w.redis
	switch f.Kind {
	case "redis-error", "redis-handshake", "redis-cut", "redis-late", "redis-hang":
		return w.addRule(f, w.s.Rand(fmt.Sprint("redis fault ", i))), ""
	case "redis-stop":
		r.Pause()
		return r.Resume, ""
	case "redis-replica":
		r.ReadOnly(true)
		return func() { r.ReadOnly(false) }, ""
	case "redis-slow":
		r.SetSlow(w.s.Redis.Delay + f.By)
		return func() { r.SetSlow(w.s.Redis.Delay) }, ""
	case "redis-full":
		r.Fill(true)
		return func() { r.Fill(false) }, ""
	case "redis-restart":
		r.Down()
		return func() { w.must(r.Up(w.ctx)) }, ""
	case "redis-failover":
		down := w.rec.Now()
		r.Down()
		return func() {
			since := max(0, down-w.s.Redis.Lag)
			w.rec.Lost(history.RedisLost, "redis", "failed over", since)
			w.must(r.FailoverLosing(w.rec.Now() - since))
			w.must(r.Up(w.ctx))
		}, ""
	case "redis-empty":
		w.rec.Lost(history.RedisFlushed, "redis", "restarted without its data", 0)
		w.must(r.Restart(w.ctx, false))
	case "redis-password":
		r.SetPassword(otherSecret)
		r.CutAll()
		return func() { r.SetPassword(w.redisPassword()) }, ""
	case "redis-scripts":
		return nil, w.redisDo("SCRIPT", "FLUSH")
	}
	return nil, ""
}

// redisAnswers returns the error replies of a class; "" means all.
func redisAnswers(class string) []string {
	var all []string
	for _, a := range redisfault.Answers() {
		if strings.HasPrefix(a, class) {
			all = append(all, a)
		}
	}
	if len(all) == 0 {
		return []string{class + " simulated"}
	}
	return all
}

// rule is a fault of Redis's commands that is in force.
type rule struct {
	scenario.Fault
	rng     *rand.Rand
	answers []string // to choose from
}

// about reports whether the rule may strike a command.
func (r *rule) about(c simredis.Command) bool {
	return (r.Kind != "redis-handshake" || c.IsHandshake()) && r.rng.IntN(1000) < r.N
}

// draw returns the fault of a command that the rule strikes, and the words with which the history tells of it.
func (r *rule) draw() (f simredis.Fault, told string) {
	switch r.Kind {
	case "redis-late":
		return simredis.Fault{Delay: r.By}, "late"
	case "redis-hang":
		return simredis.Fault{Hang: true}, "hangs"
	case "redis-cut":
		f = simredis.Fault{Cut: true, Done: r.Arg != ""}
		if r.Arg == "torn" {
			f.Bytes = 1 + r.rng.IntN(20)
		}
		return f, "cut"
	}
	f.Answer = r.answers[r.rng.IntN(len(r.answers))]
	return f, f.Answer
}

// addRule puts a fault of Redis's commands in force. It returns a function that ends it.
func (w *world) addRule(f scenario.Fault, rng *rand.Rand) func() {
	one := &rule{f, rng, redisAnswers(f.Arg)}
	change := func(f func([]*rule) []*rule) {
		w.mu.Lock()
		w.rules = f(slices.Clone(w.rules))
		rules := w.rules
		w.mu.Unlock()
		if len(rules) == 0 {
			w.redis.Let(nil)
			return
		}
		w.redis.Let(func(c simredis.Command) simredis.Fault {
			for _, r := range rules {
				if r.about(c) {
					f, told := r.draw()
					w.rec.Happened(history.RedisAnswered, c.Owner, c.Name+": "+told)
					return f
				}
			}
			return simredis.Fault{}
		})
	}
	change(func(rules []*rule) []*rule { return append(rules, one) })
	if f.Kind == "redis-handshake" {
		w.redis.CutAll()
	}
	return func() {
		change(func(rules []*rule) []*rule { return slices.DeleteFunc(rules, func(r *rule) bool { return r == one }) })
		if f.Kind == "redis-hang" {
			w.redis.CutAll()
		}
	}
}

// redisDo sends a command to Redis as redis-cli does, and returns the first line of the reply, or what went wrong.
func (w *world) redisDo(args ...string) string {
	ctx, cancel := context.WithTimeout(w.ctx, 5*time.Second)
	defer cancel()
	conn, err := w.operator.DialContext(ctx, "tcp", w.redisAddress())
	if err != nil {
		return err.Error()
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
	commands := [][]string{args}
	if password := w.redisPassword(); password != "" {
		commands = [][]string{{"AUTH", password}, args}
	}
	var request strings.Builder
	for _, c := range commands {
		fmt.Fprintf(&request, "*%d\r\n", len(c))
		for _, a := range c {
			fmt.Fprintf(&request, "$%d\r\n%s\r\n", len(a), a)
		}
	}
	if _, err := conn.Write([]byte(request.String())); err != nil {
		return err.Error()
	}
	replies, line := bufio.NewReader(conn), ""
	for range commands {
		if line, err = replies.ReadString('\n'); err != nil {
			return err.Error()
		}
	}
	return strings.TrimSpace(line)
}

// saveLate saves the key that a row's Load waits for, after some time: a program beside the cluster does it.
func (w *world) saveLate(flow, key string, after time.Duration) {
	f := w.flowOf(flow)
	if f == nil {
		return
	}
	name := forms.LastKey(f.For, key)
	w.at(w.rec.Now()+after, func() {
		for range 10 {
			answer := w.redisDo("HSET", forms.KeyPrefix+name, "n", "1")
			if strings.HasPrefix(answer, ":") {
				w.rec.Happened(history.StoreChanged, name, "saved by another program")
				return
			}
			if !w.sleep(3 * time.Second) {
				return
			}
		}
	})
}
