package command

import (
	"os"
	"path"
	"strconv"
	"strings"
)

// Cgroup is what Linux says of the memory of the control group that the process is in: in a container, of the container.
type Cgroup struct {
	// Limit is how many bytes it may take; 0: as many as there are, or nobody says.
	Limit int64
	// Kills is how many of its processes the system has killed for their memory since the group was made.
	Kills int64
}

// ReadCgroup asks the system, which tells of groups of version 2. Elsewhere all is 0.
func ReadCgroup() Cgroup { return readCgroup("/") }

func readCgroup(root string) (c Cgroup) {
	own := ""
	for line := range strings.Lines(readFile(root, "proc/self/cgroup")) {
		if after, ok := strings.CutPrefix(strings.TrimSpace(line), "0::"); ok {
			own = after
		}
	}
	for dir := path.Join("sys/fs/cgroup", own); ; dir = path.Dir(dir) {
		if n := parseNumber(readFile(root, dir+"/memory.max")); n > 0 && (c.Limit == 0 || n < c.Limit) {
			c.Limit = n // the lowest of those above counts
		}
		if dir == "sys/fs/cgroup" || dir == "." {
			break
		}
	}
	for line := range strings.Lines(readFile(root, path.Join("sys/fs/cgroup", own, "memory.events"))) {
		if after, ok := strings.CutPrefix(line, "oom_kill "); ok {
			c.Kills = parseNumber(after)
		}
	}
	return c
}

// read is a file's text; "" where there is none.
func readFile(root, name string) string {
	text, err := os.ReadFile(path.Join(root, name))
	if err != nil {
		return "" // another system, or another version
	}
	return string(text)
}

// number is 0 for a text that is none, such as max.
func parseNumber(text string) int64 {
	n, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
	if err != nil {
		return 0
	}
	return n
}
