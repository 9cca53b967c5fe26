package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestAuthoring compiles and tests the Go code that docs/authoring.md shows.
func TestAuthoring(t *testing.T) {
	text, err := os.ReadFile("../docs/authoring.md")
	if err != nil {
		t.Fatal(err)
	}
	source := `package e2e

import (
	"context"
	"testing"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/flowexec"
	"github.com/kisgrid/kisgrid/pkg/flowtest"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

type (
	Reading struct {
		Sensor  string  ` + "`json:\"sensor\"`" + `
		Celsius float64 ` + "`json:\"celsius\"`" + `
	}
	Fahrenheit struct {
		Sensor     string
		Fahrenheit float64
	}
	Series struct {
		Sensor string
		Values []float64
	}
)
`
	blocks := strings.Split(string(text), "```go not run: TestAuthoring (e2e) compiles and runs it\n")
	for _, block := range blocks[1:] {
		code, _, _ := strings.Cut(block, "```")
		source += "\n" + code
	}
	// Only below this folder does go find the module's packages. The folder's name begins with _, so that ./... does not match it.
	dir, err := os.MkdirTemp(".", "_authoring-") //nolint:usetesting // elsewhere is no module
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	conf := map[string]string{
		"flow.yml": "kistype: flow\nflow_name: Weather\nstatus: 1\nshard_key: sensor\nflows: [{fname: Plausible}, {fname: Keep}, {fname: Change}, {fname: ToFahrenheit}]\n",
		"conn.yml": "kistype: conn\ncname: Last\ntype: redis\naddrs: ${REDIS_ADDR}\n",
	}
	for name, mode := range map[string]string{"Plausible": "Verify", "Keep": "Save", "Change": "Load", "ToFahrenheit": "Calculate"} {
		conf[name+".yml"] = "kistype: func\nfname: " + name + "\nfmode: " + mode + "\noption: {cname: Last}\n"
	}
	if err := os.Mkdir(filepath.Join(dir, "conf"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range conf {
		if err := os.WriteFile(filepath.Join(dir, "conf", name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "authoring_test.go"), []byte(source), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "go", "test", "-v", "./"+dir)
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "1 filtered Plausible DROPPED 999 °C is no weather") {
		t.Errorf("%v\n%s", err, out)
	}
}
