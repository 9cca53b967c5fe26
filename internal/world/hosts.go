package world

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hashicorp/go-hclog"

	"github.com/kisgrid/kisgrid/internal/network"
	"github.com/kisgrid/kisgrid/internal/world/history"
	"github.com/kisgrid/kisgrid/internal/world/scenario"
	"github.com/kisgrid/kisgrid/internal/world/simetcd"
	"github.com/kisgrid/kisgrid/internal/world/simnet"
	"github.com/kisgrid/kisgrid/internal/world/simredis"
	"github.com/kisgrid/kisgrid/pkg/cluster"
)

// Secrets are the passwords of a simulated cluster. They must stand in no message, log or metric.
var Secrets = []string{etcdSecret, redisSecret, otherSecret}

// The passwords.
//
//nolint:gosec // they are made up
const (
	etcdSecret  = "etcd-secret-7cN2vQ"
	redisSecret = "redis-secret-Xk81Lw"
	otherSecret = "redis-secret-Bd93Rt" // of Redis while the fault redis-password lasts
)

// host returns the machine of a name.
func (w *world) host(name string) *simnet.Host {
	if name == "" {
		name = "lost"
	}
	return w.net.Host(name)
}

// startHosts makes the network and its machines, and starts etcd and Redis.
func (w *world) startHosts() {
	w.net = simnet.New(w.s.Seed)
	w.net.Choose(w.s.Addresses != scenario.IPv6, w.s.Addresses != "")
	if w.s.Latency > 0 {
		w.net.Break(simnet.Trouble{Delay: w.s.Latency, Jitter: w.s.Latency})
	}
	w.operator = w.net.Host("operator").Process("operator")
	var names []string
	for _, p := range slices.Concat(w.s.Coordinators, w.s.Workers) {
		names = append(names, p.Host)
	}
	for _, c := range w.s.Clients {
		names = append(names, c.Host)
	}
	for _, name := range names { // in the scenario's order, so that each machine gets the same address every time
		w.host(name)
	}
	w.nameCoordinators(nil, 0)
	members := make([]simetcd.Member, max(1, w.s.Etcd.Members))
	for i := range members {
		name := fmt.Sprintf("etcd-%d", i+1)
		members[i] = simetcd.Member{Name: name, Network: w.host(name), Address: ":2379"}
	}
	var err error
	w.etcd, err = simetcd.Start(w.ctx, simetcd.Config{
		Members: members, MaxOperations: w.s.Etcd.MaxOperations, TokenLasts: w.s.Etcd.TokenLasts, Delay: w.s.Etcd.Delay, Seed: w.s.Seed,
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.setUser()
	w.redis, err = simredis.Start(w.ctx, simredis.Config{
		Listen: func(ctx context.Context) (net.Listener, error) {
			return w.host("redis-1").Listen(ctx, ":6379")
		},
		Owner:    owner,
		Password: w.redisPassword(), Replicas: w.s.Redis.Replicas, Lag: w.s.Redis.Lag,
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.redis.SetSlow(w.s.Redis.Delay)
	w.startOperator()
}

// coordinatorsName is the name that has the addresses of all coordinators at port 7700.
const coordinatorsName = "coordinators"

// nameCoordinators gives the coordinators' name its addresses, in the scenario's order. change is added to the number of faults that leave
// out a machine; nil means none.
func (w *world) nameCoordinators(h *simnet.Host, change int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if h != nil {
		w.leftOut[h.Name()] += change
	}
	var addresses []string
	for _, p := range w.coordinatorParties {
		if ips := w.host(p.setting.Host).IPs(); strings.HasSuffix(w.addressOf(p), ":7700") && w.leftOut[p.setting.Host] == 0 && !slices.Contains(addresses, ips[0]) {
			addresses = append(addresses, ips...)
		}
	}
	w.net.SetName(coordinatorsName, addresses...)
}

// owner names the process at the other end of a connection.
func owner(c net.Conn) string {
	if peer, ok := c.(interface{ Peer() string }); ok {
		return peer.Peer()
	}
	return c.RemoteAddr().String()
}

// etcdEndpoints returns the addresses of etcd's members.
func (w *world) etcdEndpoints() []string {
	var all []string
	for i := range max(1, w.s.Etcd.Members) {
		all = append(all, fmt.Sprintf("etcd-%d:2379", i+1))
	}
	return all
}

// etcdFor returns how a process reaches etcd.
func (w *world) etcdFor(n network.Network, log hclog.Logger) cluster.Config {
	c := cluster.Config{Endpoints: w.etcdEndpoints(), Network: n}
	if log != nil {
		c.Logger = log.Named("etcd")
	}
	if w.s.Etcd.User != "" {
		c.Username, c.PasswordFile = w.s.Etcd.User, w.passwordFile()
	}
	return c
}

// passwordFile returns the path of the file with etcd's password.
func (w *world) passwordFile() string { return filepath.Join(w.folder, "password") }

// writePassword writes the file with etcd's password.
func (w *world) writePassword() error {
	return os.WriteFile(w.passwordFile(), []byte(etcdSecret+"\n"), 0o600)
}

// redisAddress returns the address of Redis.
func (w *world) redisAddress() string { return "redis-1:6379" }

// redisURL returns the address of Redis as the store of dead letters takes it.
func (w *world) redisURL() string { return "redis://" + w.redisAddress() }

// redisPassword returns the password of Redis, as processes have it in their environment; empty means none.
func (w *world) redisPassword() string {
	if w.s.Redis.User == "" {
		return ""
	}
	return redisSecret
}

// dropPrefix returns a key in etcd without the prefix of KisGrid, and false for a key of somebody else.
func dropPrefix(key string) (string, bool) { return strings.CutPrefix(key, cluster.DefaultPrefix) }

// note records something for the readers of the history.
func (w *world) note(who, format string, args ...any) {
	w.rec.Happened(history.Note, who, fmt.Sprintf(format, args...))
}
