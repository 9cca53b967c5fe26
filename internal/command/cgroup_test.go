package command

import (
	"os"
	"path/filepath"
	"testing"
)

// TestReadCgroup reads what groups of version 2 say: of a container, of a group within others, and of none.
func TestReadCgroup(t *testing.T) {
	for name, c := range map[string]struct {
		files map[string]string
		want  Cgroup
	}{
		"a container": {map[string]string{
			"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "536870912\n",
			"sys/fs/cgroup/memory.events": "low 0\nhigh 0\nmax 12\noom 3\noom_kill 2\noom_group_kill 0\n",
		}, Cgroup{512 << 20, 2}},
		"a service within a slice that may take less": {map[string]string{
			"proc/self/cgroup":                              "12:pids:/x\n0::/a.slice/b.service\n",
			"sys/fs/cgroup/a.slice/memory.max":              "1000\n",
			"sys/fs/cgroup/a.slice/b.service/memory.max":    "2000\n",
			"sys/fs/cgroup/a.slice/b.service/memory.events": "oom_kill 0\n",
		}, Cgroup{Limit: 1000}},
		"no limit":      {map[string]string{"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "max\n"}, Cgroup{}},
		"no such thing": {nil, Cgroup{}},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			for file, text := range c.files {
				at := filepath.Join(root, file)
				if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(at, []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if got := readCgroup(root); got != c.want {
				t.Errorf("read %+v, want %+v", got, c.want)
			}
		})
	}
}
