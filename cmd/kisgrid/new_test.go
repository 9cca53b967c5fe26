package main

import (
	"bytes"
	"go/format"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kisgrid/kisgrid/internal/command"
	"github.com/kisgrid/kisgrid/internal/flowcmd"
)

// kisgrid runs a command line.
func kisgrid(args ...string) (out string, err error) {
	var b bytes.Buffer
	cmd := root()
	cmd.SetArgs(flowcmd.Arguments(args))
	cmd.SetOut(&b)
	cmd.SetErr(&b)
	err = cmd.Execute()
	return b.String(), err
}

func TestNew(t *testing.T) {
	checkout := t.TempDir()
	write(t, checkout, "go.mod", "module github.com/kisgrid/kisgrid\n\ngo 1.99.0\n\nrequire a.b/c v1.0.0 // indirect\n\nrequire (\n\td.e/f v2.0.0\n)\n\nreplace (\n\tx.y/z v1.0.0 => ./z\n)\n")
	write(t, checkout, "go.sum", "a.b/c v1.0.0 h1:x\n")
	dir := filepath.Join(t.TempDir(), "My.Grades")
	out, err := kisgrid("new", dir, "--module", "example.com/school/grades", "--replace", checkout)
	if err != nil || !strings.Contains(out, "cd "+dir+"\n  go test ./...\n  go run . run ./conf Grades -f rows.ndjson\n") {
		t.Fatalf("%v\n%s", err, out)
	}
	want := "module example.com/school/grades\n\ngo 1.99.0\n\nrequire github.com/kisgrid/kisgrid v0.0.0\n\n" +
		"// The modules that github.com/kisgrid/kisgrid needs; go mod tidy removes those that this project does not need.\nrequire (\n\ta.b/c v1.0.0 // indirect\n\td.e/f v2.0.0 // indirect\n)\n\n" +
		"replace github.com/kisgrid/kisgrid => " + checkout + "\n"
	for name, want := range map[string]string{"go.mod": want, "go.sum": "a.b/c v1.0.0 h1:x\n", ".gitignore": "/worker\n"} {
		if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(got) != want {
			t.Errorf("%s is\n%s\nnot\n%s\n%v", name, got, want, err)
		}
	}
	err = filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		if bytes.Contains(text, []byte("{{")) || bytes.Contains(text, []byte("<no value>")) {
			t.Errorf("%s is not filled in:\n%s", path, text)
		}
		if strings.HasSuffix(path, ".go") {
			if formatted, err := format.Source(text); err != nil || !bytes.Equal(formatted, text) {
				t.Errorf("%s is not as gofmt has it: %v", path, err)
			}
		}
		if entry.Name() == "Dockerfile" && !bytes.Contains(text, []byte("docker build -t my.grades .")) {
			t.Errorf("the Dockerfile is\n%s", text)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// A program that belongs to a release needs no checkout.
func TestNewOfARelease(t *testing.T) {
	defer func(v string) { command.Version = v }(command.Version)
	command.Version = "v1.2.3"
	t.Chdir(t.TempDir())
	out, err := kisgrid("new", "grades")
	if err != nil || !strings.Contains(out, "cd grades\n  go mod tidy\n  go test ./...\n") {
		t.Fatalf("%v\n%s", err, out)
	}
	text, err := os.ReadFile("grades/go.mod")
	if err != nil || !strings.HasSuffix(string(text), "\n\nrequire github.com/kisgrid/kisgrid v1.2.3\n") {
		t.Errorf("go.mod is\n%s\n%v", text, err)
	}
	if _, err := os.Stat("grades/go.sum"); err == nil {
		t.Error("there is a go.sum of nothing")
	}
}

func TestNewRefuses(t *testing.T) {
	full, other := t.TempDir(), t.TempDir()
	write(t, full, "notes.txt", "mine")
	write(t, other, "go.mod", "module example.com/other\n")
	checkout, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(t.TempDir())
	write(t, ".", "file", "")
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{"."}, "this program does not belong to a release: give the folder of a checkout of KisGrid with --replace"},
		{[]string{full, "--replace", checkout}, full + " is not empty (it has notes.txt): name a new folder"},
		{[]string{"file", "--replace", checkout}, "make the project's folder: mkdir "},
		{[]string{"my grades", "--replace", checkout}, `the folder's name "my grades" would be the name of the program: use letters`},
		{[]string{"-grades-", "--replace", checkout}, `unknown shorthand flag`},
		{[]string{"grades-", "--replace", checkout}, `the folder's name "grades-"`},
		{[]string{"grades", "--replace", checkout, "--module", "a//b"}, `--module "a//b": "" can't be part of a module path: write a path such as example.com/school/grades`},
		{[]string{"grades", "--replace", checkout, "--module", "github.com/kisgrid/kisgrid/grades"}, "is a path of Go or of KisGrid: write a path such as"},
		{[]string{"std", "--replace", checkout}, `--module "std" is a path of Go`},
		{[]string{"grades", "--replace", other}, "--replace " + other + ": its go.mod is not that of github.com/kisgrid/kisgrid"},
		{[]string{"grades", "--replace", "nowhere"}, "read the checkout of KisGrid: open "},
		{[]string{}, "accepts 1 arg(s), received 0"},
	} {
		_, err := kisgrid(append([]string{"new"}, test.args...)...)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("new %q: got %v, want %s", test.args, err, test.want)
		}
	}
	if _, err := os.Stat("grades"); err == nil {
		t.Error("what was refused has been written")
	}
	if text, err := os.ReadFile(filepath.Join(full, "notes.txt")); err != nil || string(text) != "mine" {
		t.Errorf("what was there is %q, %v", text, err)
	}
}

func write(t *testing.T, dir, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// A project without Go has no Go file, and passes its lint and its tests as it is; its rows run.
func TestNewWithoutGo(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "My.Grades")
	out, err := kisgrid("new", dir, "--no-go")
	if want := "My.Grades is written. Next:\n\n  cd " + dir + "\n  kisgrid test .\n  kisgrid run ./conf Grades -f rows.ndjson\n"; err != nil || out != want {
		t.Fatalf("%v\n%s", err, out)
	}
	err = filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		if strings.HasSuffix(path, ".go") || entry.Name() == "go.mod" || strings.HasSuffix(path, ".tmpl") || bytes.Contains(text, []byte("{{")) {
			t.Errorf("%s is\n%s", path, text)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	t.Chdir(dir)
	for _, args := range [][]string{{"test", "."}, {"lint", "./conf"}, {"lint", "."}, {"run", "./conf", "Grades", "-f", "rows.ndjson"}} {
		if out, err := kisgrid(args...); err != nil {
			t.Errorf("kisgrid %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	if out, err := kisgrid("test", "."); err != nil || out != "2 cases passed\n" {
		t.Errorf("%v\n%s", err, out)
	}
	for _, flag := range []string{"--module", "--replace"} {
		if _, err := kisgrid("new", "other", "--no-go", flag, "x"); err == nil || !strings.Contains(err.Error(), "no-go") {
			t.Errorf("%s beside --no-go: %v", flag, err)
		}
	}
}
