package command

import (
	"os"
	"path"
	"strconv"
	"strings"
)

// Cgroup has the memory limit and the memory events of this process's Linux control group. In a container it is the
// container's group.
type Cgroup struct {
	// Limit is the largest amount of memory that the group may use, in bytes. 0 means no limit, or that the system does not
	// say.
	Limit int64
	// Kills is how many processes of the group the system has killed for their use of memory, since the group was made.
	Kills int64
}

// ReadCgroup reads the control group of this process, version 2. On other systems every value is 0.
func ReadCgroup() Cgroup { return readCgroup("/") }

// readCgroup reads the control group from the files below root, which is "/" except in tests.
func readCgroup(root string) (c Cgroup) {
	own := ""
	for line := range strings.Lines(readFile(root, "proc/self/cgroup")) {
		if after, ok := strings.CutPrefix(strings.TrimSpace(line), "0::"); ok {
			own = after
		}
	}
	for dir := path.Join("sys/fs/cgroup", own); ; dir = path.Dir(dir) {
		if n := parseNumber(readFile(root, dir+"/memory.max")); n > 0 && (c.Limit == 0 || n < c.Limit) {
			c.Limit = n // the lowest limit of this group and its parents counts
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

// readFile returns the text of a file, or "" when it can't be read.
func readFile(root, name string) string {
	text, err := os.ReadFile(path.Join(root, name))
	if err != nil {
		return "" // the system is not Linux, or has control groups of version 1
	}
	return string(text)
}

// parseNumber returns the number in a text, or 0 for another text such as "max".
func parseNumber(text string) int64 {
	n, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
	if err != nil {
		return 0
	}
	return n
}
