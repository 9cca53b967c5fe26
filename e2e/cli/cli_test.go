package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/kisgrid/kisgrid/internal/devcluster"
	"github.com/kisgrid/kisgrid/internal/testgrid"
	"github.com/kisgrid/kisgrid/internal/testprocess"
)

func TestMain(m *testing.M) {
	os.Exit(testprocess.Main(m, "../../cmd/coordinator", "../../cmd/worker", "../../cmd/kisgrid"))
}

// shell runs commands in a folder of its own, with the program kisgrid, at one cluster.
type shell struct {
	t   *testing.T
	dir string
	env []string
}

// start starts a cluster with the students' flows and a store for dead letters, and makes a folder with files that examples name.
func start(t *testing.T) *shell {
	t.Helper()
	g := testgrid.New(t)
	testgrid.StartRedis(t, g.Redis)
	g.Etcd, g.Lease = testgrid.EmbeddedEtcd(t, devcluster.EtcdConfig{}).Address(), "6s"
	c := g.AddCoordinator("--dead-letters", "redis://"+g.Redis).Start()
	g.StartWorker("worker-3") // the name that examples have
	c.Ready()
	g.AwaitWorkers(1)
	s := &shell{t: t, dir: t.TempDir()}
	_, err := exec.LookPath("sh")
	if err != nil {
		t.Skip("there is no shell: ", err)
	}
	s.env = append(os.Environ(), "KISGRID_SERVER="+c.Address, "HTTP="+c.HTTP, "REDIS="+g.Redis, "REDIS_ADDR="+g.Redis, "KISGRID_CONFIG="+filepath.Join(s.dir, "contexts.yml"), "TZ=UTC", "LC_ALL=C", "PATH="+testprocess.Bin()+":"+os.Getenv("PATH"))
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(s.dir, "examples"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(root, "examples", "students"), filepath.Join(s.dir, "examples", "students")); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"rows.ndjson": "{\"stu_id\":101,\"score_1\":100,\"score_2\":90}\n{\"stu_id\":102,\"score_1\":100,\"score_2\":80}\n",
		"row.json":    `{"stu_id": 101, "score_1": 100, "score_2": 90}`,
		"flow.yml":    "kistype: flow\nstatus: 1\nflow_name: Half\nflows:\n  - fname: VerifyStu\n",
	} {
		if err := os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	testprocess.Until(t, "the students' flows are active", func() error {
		if out, code := s.run("kisgrid apply -f examples/students/conf"); code != 0 {
			return errors.New(out)
		}
		return nil
	})
	return s
}

// run runs a command line to its end. It returns everything that the command printed, on both outputs, and its exit code.
func (s *shell) run(line string) (out string, code int) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "sh", "-c", line)
	cmd.Dir, cmd.Env, cmd.WaitDelay = s.dir, s.env, 5*time.Second
	text, err := cmd.CombinedOutput()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return string(text), exit.ExitCode()
	}
	if err != nil {
		s.t.Fatalf("%s: %v\n%s", line, err, text)
	}
	return string(text), 0
}

// step is a command of a file in testdata, and the output that it must have.
type step struct {
	line    int
	command string
	want    string
	code    int
}

// readSteps reads a file of testdata. A line that begins with "$ " is a command; lines that begin with "> " continue it. The lines behind it are its
// output, in which … stands for anything within a line, and a line with … alone for any lines. A last line "exit N" is the exit code, if it is not
// 0. Lines that begin with # are comments.
func readSteps(t *testing.T, path string) (steps []step) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for n := 1; lines.Scan(); n++ {
		text := lines.Text()
		command, isCommand := strings.CutPrefix(text, "$ ")
		switch {
		case isCommand:
			steps = append(steps, step{line: n, command: command})
			continue
		case strings.HasPrefix(text, "# ") || len(steps) == 0:
			continue
		}
		last := &steps[len(steps)-1]
		if more, ok := strings.CutPrefix(text, "> "); ok {
			last.command += "\n" + more
		} else if _, err := fmt.Sscanf(text, "exit %d", &last.code); err != nil && text != "" {
			last.want += text + "\n"
		}
	}
	if lines.Err() != nil {
		t.Fatal(lines.Err())
	}
	return steps
}

// pattern returns a regular expression for an output.
func pattern(want string) *regexp.Regexp {
	quoted := regexp.QuoteMeta(want)
	quoted = regexp.MustCompile(`(?m)^…\n`).ReplaceAllString(quoted, `(?s:.*)`)
	return regexp.MustCompile(`^` + strings.ReplaceAll(quoted, "…", `[^\n]*`) + `$`)
}

func TestCommandLine(t *testing.T) {
	s := start(t)
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("there are no files in testdata", err)
	}
	for _, file := range files { // in the order of their names, since later ones build on what earlier ones left
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			for _, step := range readSteps(t, file) {
				out, code := s.run(step.command)
				if out = blankLines.ReplaceAllString(out, "\n"); code != step.code || !pattern(step.want).MatchString(strings.TrimLeft(out, "\n")) {
					t.Errorf("%s:%d: %s\nended with %d and printed:\n%s\nwant %d:\n%s", file, step.line, step.command, code, out, step.code, step.want)
				}
			}
		})
	}
	t.Run("examples", func(t *testing.T) { s.examples(t) })
}

// blankLines are empty lines, which the files of testdata leave out.
var blankLines = regexp.MustCompile(`\n\n+`)

// notRun are verbs whose examples can't be run here, with the reason.
var notRun = map[string]string{
	"kisgrid dev":          "it listens on the default ports, and runs until Ctrl-C: e2e and the tutorial run it",
	"kisgrid demo":         "TestDemo runs it",
	"kisgrid new":          "TestNew runs it: it needs the module's source",
	"kisgrid test":         "the tests of package flowcmd run it",
	"kisgrid audit":        "it needs a coordinator with an access file: the tests of access run it",
	"kisgrid completion":   "it writes for shells",
	"kisgrid token":        "the tests of access run it",
	"kisgrid rollout undo": "there may be nothing to undo",
	"kisgrid login":        "the tests of contexts run it",
	"kisgrid access":       "the tests of access run it",
	"kisgrid dead edit":    "the letters of the other examples are gone by then",
	"kisgrid dead show":    "the letters of the other examples are gone by then",
	"kisgrid delete":       "it runs last",
	"kisgrid drain":        "its example goes on with the worker's machine",
}

// undone has the commands that undo the effects of examples which others could not live with.
var undone = map[string]string{
	"kisgrid cordon": "kisgrid uncordon worker-3",
	"kisgrid pause":  "kisgrid resume CalStuAvgScore12; kisgrid resume CalStuAvgScore3",
}

// examples runs the first example of each verb's --help. Every verb must have one, and it must end with 0.
func (s *shell) examples(t *testing.T) {
	if out, code := s.run(`echo '{"stu_id":103,"score_1":"x","score_2":1}' | kisgrid submit CalStuAvgScore12`); code != 1 {
		t.Errorf("a row that does not fit ended with %d: %s", code, out)
	}
	for _, verb := range s.verbs(t, "kisgrid") {
		help, code := s.run(verb + " --help")
		_, rest, ok := strings.Cut(help, "\nExamples:\n")
		if code != 0 || !ok && !strings.HasPrefix(verb, "kisgrid completion") && verb != "kisgrid demo" {
			t.Errorf("%s --help ends with %d, and has an example: %t", verb, code, ok)
			continue
		}
		if notRun[verb] != "" || !ok {
			continue
		}
		example, _, _ := strings.Cut(strings.TrimSpace(rest), "\n")
		if verb == "kisgrid config use" { // config set-context comes behind it
			s.run("kisgrid config set-context prod --server $KISGRID_SERVER")
		}
		if out, code := s.run(example); code != 0 {
			t.Errorf("the example of %s, %s, ended with %d:\n%s", verb, example, code, out)
		}
		if undo := undone[verb]; undo != "" {
			s.run(undo)
		}
	}
	if out, code := s.run("kisgrid delete flow CalStuAvgScore12"); code != 0 {
		t.Errorf("kisgrid delete flow ended with %d:\n%s", code, out)
	}
}

// verbs returns a command and all verbs below it that can be run, as --help lists them.
func (s *shell) verbs(t *testing.T, command string) []string {
	out, code := s.run(command + " --help")
	if code != 0 {
		t.Errorf("%s --help ended with %d:\n%s", command, code, out)
	}
	_, list, ok := strings.Cut(out, "\nAvailable Commands:\n")
	if !ok {
		return []string{command}
	}
	list, _, _ = strings.Cut(list, "\n\n")
	var all []string
	for line := range strings.Lines(list) {
		if name := strings.Fields(line)[0]; name != "help" && name != "completion" {
			all = append(all, s.verbs(t, command+" "+name)...)
		}
	}
	return all
}
