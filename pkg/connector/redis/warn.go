package redis

import (
	"bufio"
	"context"
	"strconv"
	"strings"
	"sync"
	"time"

	goredis "github.com/redis/go-redis/v9"
)

// inspectEvery is how often Redis's settings are looked at: they can be changed while it runs.
const inspectEvery = time.Minute

// risk is what in Redis's own settings loses data.
type risk string

// The risks, as the metric names them.
const (
	riskEvicts    risk = "evicts"
	riskNotOnDisk risk = "not_on_disk"
)

var riskWarnings = map[risk]string{
	riskEvicts:    "redis drops keys when it is full, and with them what flows have saved: set maxmemory-policy noeviction",
	riskNotOnDisk: "redis keeps nothing on disk, so its restart loses what flows have saved: set appendonly yes, or save",
}

// risks are what the settings of some of a connector's servers risk. A connection's own belong to its opener first, then to
// recheck, and to Close once that has ended.
type risks map[risk]bool

// inspect looks at Redis's settings, keeps the metric and what Redis takes in one piece, and warns of what it did not warn of the last time. What a server does
// not let us see is not judged.
func (c *Connection) inspect(ctx context.Context) {
	var mu sync.Mutex
	found := risks{}    // guarded by mu
	longest := int64(0) // guarded by mu
	look := func(ctx context.Context, node redisInfo) error {
		here, err := inspectNode(ctx, node)
		takes := longestOf(ctx, node)
		mu.Lock()
		defer mu.Unlock()
		if takes > 0 && (longest == 0 || takes < longest) {
			longest = takes
		}
		for r, there := range here {
			found[r] = found[r] || there
		}
		return err
	}
	var err error
	if c.cluster != nil {
		err = c.cluster.ForEachMaster(ctx, func(ctx context.Context, node *goredis.Client) error { return look(ctx, node) })
	} else {
		err = look(ctx, c.client)
	}
	c.longest.Store(longest)
	if err != nil {
		c.log.Debug("redis does not show its settings", "error", err)
	}
	for r, there := range found {
		if err != nil && !there {
			continue // a server that was not seen may have it
		}
		c.setRisk(r, there)
	}
}

// setRisk keeps the metric, and warns of a risk that was not there.
func (c *Connection) setRisk(r risk, there bool) {
	more := 0
	switch {
	case there && !c.risks[r]:
		more = 1
		c.log.Warn(riskWarnings[r], "risk", string(r))
	case !there && c.risks[r]:
		more = -1
	}
	c.metrics.Risk(c.name, string(r), more)
	c.risks[r] = there
}

// redisInfo is the part of a client that inspectNode needs.
type redisInfo interface {
	Info(ctx context.Context, sections ...string) *goredis.StringCmd
	ConfigGet(ctx context.Context, parameter string) *goredis.MapStringStringCmd
}

// inspectNode has for each risk that one server lets us judge whether it is there.
func inspectNode(ctx context.Context, node redisInfo) (risks, error) {
	info := map[string]string{}
	for _, section := range []string{"memory", "persistence"} {
		text, err := node.Info(ctx, section).Result()
		if err != nil {
			return nil, err
		}
		for lines := bufio.NewScanner(strings.NewReader(text)); lines.Scan(); {
			if name, value, ok := strings.Cut(lines.Text(), ":"); ok {
				info[name] = value
			}
		}
	}
	found := risks{}
	if policy := info["maxmemory_policy"]; policy != "" {
		found[riskEvicts] = policy != "noeviction" && info["maxmemory"] != "0"
	}
	// Only CONFIG tells of snapshots, and many operators forbid it.
	switch snapshots, err := node.ConfigGet(ctx, "save").Result(); {
	case info["aof_enabled"] == "1":
		found[riskNotOnDisk] = false
	case err == nil && info["aof_enabled"] == "0":
		found[riskNotOnDisk] = snapshots["save"] == ""
	}
	return found, nil
}

// longestOf is how many bytes of one key, field or value a server takes; 0: it does not say. It cuts the connection on more.
func longestOf(ctx context.Context, node redisInfo) int64 {
	const name = "proto-max-bulk-len"
	settings, err := node.ConfigGet(ctx, name).Result()
	if err != nil {
		return 0 // many operators forbid CONFIG
	}
	bytes, err := strconv.ParseInt(settings[name], 10, 64)
	if err != nil {
		return 0
	}
	return bytes
}
