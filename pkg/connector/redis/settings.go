package redis

import (
	"bufio"
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	goredis "github.com/redis/go-redis/v9"
)

// inspectEvery is how often the settings of Redis are looked at: an operator can change them while it runs.
const inspectEvery = time.Minute

// risk is a way in which Redis's own settings may lose data.
type risk string

// The risks, by the names that the metric kisgrid_connector_risk gives them.
const (
	riskEvicts    risk = "evicts"      // Redis drops keys when its memory is full
	riskNotOnDisk risk = "not_on_disk" // Redis keeps nothing on disk, so a restart loses all data
)

// riskWarnings has, for each risk, the log message that warns of it.
var riskWarnings = map[risk]string{
	riskEvicts:    "redis drops keys when it is full, and with them what flows have saved: set maxmemory-policy noeviction",
	riskNotOnDisk: "redis keeps nothing on disk, so its restart loses what flows have saved: set appendonly yes, or save",
}

// risks says for each risk whether the Redis has it. A risk that could not be judged is missing.
type risks map[risk]bool

// settings watches the settings of the Redis behind a connection: those that may lose data, and the longest text that Redis
// takes.
type settings struct {
	conn *Connection
	// found are the risks that the metric shows and that the log has warned of. They belong to the goroutine that opens the
	// connection, then to recheck, and to Close once recheck has ended.
	found risks
	// maxBytes is how many bytes of one key, field or value Redis takes; 0 means not known. Any goroutine may read it.
	maxBytes atomic.Int64
}

// inspect looks at Redis's settings. It updates the metric and maxBytes, and warns of each risk that was not there the last time. A
// setting that Redis does not let us see is not judged.
func (s *settings) inspect(ctx context.Context) {
	c := s.conn
	var mu sync.Mutex
	found := risks{}     // of any server; guarded by mu
	smallest := int64(0) // limit of any server; guarded by mu
	look := func(ctx context.Context, node redisInfo) error {
		here, err := risksOf(ctx, node)
		limit := maxBytesOf(ctx, node)
		mu.Lock()
		defer mu.Unlock()
		if limit > 0 && (smallest == 0 || limit < smallest) {
			smallest = limit
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
	s.maxBytes.Store(smallest)
	if err != nil {
		c.log.Debug("redis does not show its settings: the risks of losing data are not known", "error", err)
	}
	for r, there := range found {
		if err != nil && !there {
			continue // a server that did not answer may have it
		}
		s.set(r, there)
	}
}

// set updates the metric of a risk, and warns in the log if the risk is there and was not there before.
func (s *settings) set(r risk, there bool) {
	more := 0
	switch {
	case there && !s.found[r]:
		more = 1
		s.conn.log.Warn(riskWarnings[r], "risk", string(r))
	case !there && s.found[r]:
		more = -1
	}
	s.conn.metrics.Risk(s.conn.name, string(r), more)
	s.found[r] = there
}

// close takes the connection's risks out of the metric kisgrid_connector_risk.
func (s *settings) close() {
	for r := range s.found {
		s.set(r, false)
	}
}

// checkLength returns an error if a key, field or value is longer than Redis takes in one piece. Redis would cut the connection, and
// with it everything else that is in the same batch.
func (s *settings) checkLength(texts ...string) error {
	most := s.maxBytes.Load()
	if most == 0 {
		return nil
	}
	for _, text := range texts {
		if int64(len(text)) > most {
			return fmt.Errorf("a key, field or value has %d bytes, and Redis takes %d in one piece: give the row a shorter one, or raise proto-max-bulk-len in Redis",
				len(text), most)
		}
	}
	return nil
}

// redisInfo is the part of a go-redis client that tells about one server.
type redisInfo interface {
	Info(ctx context.Context, sections ...string) *goredis.StringCmd
	ConfigGet(ctx context.Context, parameter string) *goredis.MapStringStringCmd
}

// risksOf judges the settings of one server. A risk is missing in the result if the server does not show the setting on which it
// depends.
func risksOf(ctx context.Context, node redisInfo) (risks, error) {
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
	// Only CONFIG tells about snapshots, and many operators forbid that command.
	switch snapshots, err := node.ConfigGet(ctx, "save").Result(); {
	case info["aof_enabled"] == "1":
		found[riskNotOnDisk] = false
	case err == nil && info["aof_enabled"] == "0":
		found[riskNotOnDisk] = snapshots["save"] == ""
	}
	return found, nil
}

// maxBytesOf returns how many bytes of one key, field or value a server takes, and 0 if the server does not say. A server cuts the
// connection on which a longer text comes.
func maxBytesOf(ctx context.Context, node redisInfo) int64 {
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
