package redis

import (
	"bufio"
	"context"
	"strings"
)

// warn says, once per connection, what in Redis's own settings loses data. What a server does not let us see is not judged.
func (c *Connection) warn(ctx context.Context) {
	info := map[string]string{}
	for _, section := range []string{"memory", "persistence"} {
		text, err := c.client.Info(ctx, section).Result()
		if err != nil {
			c.log.Debug("redis does not show its settings", "error", err)
			return
		}
		for lines := bufio.NewScanner(strings.NewReader(text)); lines.Scan(); {
			if name, value, ok := strings.Cut(lines.Text(), ":"); ok {
				info[name] = value
			}
		}
	}
	policy := info["maxmemory_policy"]
	if policy != "" && policy != "noeviction" && info["maxmemory"] != "0" {
		c.log.Warn("redis drops keys when it is full, and with them what flows have saved: set maxmemory-policy noeviction", "maxmemory_policy", policy)
	}
	// Only CONFIG tells of snapshots, and many operators forbid it.
	if snapshots, err := c.client.ConfigGet(ctx, "save").Result(); err == nil && snapshots["save"] == "" && info["aof_enabled"] == "0" {
		c.log.Warn("redis keeps nothing on disk, so its restart loses what flows have saved: set appendonly yes, or save")
	}
}
