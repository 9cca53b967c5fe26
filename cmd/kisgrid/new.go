package main

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"text/template"

	"github.com/spf13/cobra"

	"github.com/kisgrid/kisgrid/internal/command"
)

// modulePath is the path of the module KisGrid.
const modulePath = "github.com/kisgrid/kisgrid"

// templates are the files of a new project, as text/template has them. A file's name loses its ending .tmpl, and dot. at its beginning
// becomes a dot.
//
//go:embed template template-no-go
var templates embed.FS

// The folders of templates: of a Go project, and of one whose functions are made of their documents.
const (
	goTemplate   = "template"
	noGoTemplate = "template-no-go"
)

// newCommand makes the command kisgrid new, which writes a new project: a flow with Go functions and a worker, or a flow without Go.
func newCommand() *cobra.Command {
	var p project
	var replace string
	var noGo bool
	cmd := &cobra.Command{
		Use:   "new DIR",
		Short: "Write a new project: functions, a flow, a test, a worker",
		Long: `new writes a Go project into DIR, which must be new or empty: a flow with two functions, their documents, a test, the main function of
a worker, and a Dockerfile. The project builds and passes its test as it is.

The project needs the module ` + modulePath + `. With --replace, a checkout of KisGrid is used for it; within a
checkout that is the default.

With --no-go it writes a project without Go: a flow whose functions are expressions in their documents, tests for kisgrid test, and rows to
try. Such a flow runs on every worker, so there is nothing to build.`,
		Example: "  kisgrid new grades\n  kisgrid new grades --no-go\n  kisgrid new grades --module example.com/school/grades --replace ../kisgrid",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			dir := args[0]
			if err := p.name(dir); err != nil {
				return err
			}
			if noGo {
				return p.writeNoGo(dir, cmd.OutOrStdout())
			}
			if err := p.require(replace); err != nil {
				return err
			}
			if err := p.write(dir, goTemplate); err != nil {
				return err
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), `%s is written. Next:

  cd %s%s
  go test ./...
  go run . run ./conf Grades -f rows.ndjson
`, p.Name, dir, p.first())
			return err
		},
	}
	cmd.Flags().BoolVar(&noGo, "no-go", false, "write a project without Go: a flow of expressions, and its tests")
	cmd.Flags().StringVar(&p.Module, "module", "", "module `path` of the project (default: the name of DIR)")
	cmd.Flags().StringVar(&replace, "replace", "", "`folder` of a checkout of KisGrid to build with (default: the checkout that the current folder is in, else the release of this program)")
	cmd.MarkFlagsMutuallyExclusive("no-go", "module")
	cmd.MarkFlagsMutuallyExclusive("no-go", "replace")
	return cmd
}

// writeNoGo writes a project without Go, and prints what to do next.
func (p *project) writeNoGo(dir string, out io.Writer) error {
	p.KisGrid = modulePath
	if err := p.write(dir, noGoTemplate); err != nil {
		return err
	}
	_, err := fmt.Fprintf(out, `%s is written. Next:

  cd %s
  kisgrid test .
  kisgrid run ./conf Grades -f rows.ndjson
`, p.Name, dir)
	return err
}

// project is the data that the templates are filled in with.
type project struct {
	// Name is the name of the project's folder and of its program, Image the name of its container image, Module its module path.
	Name, Image, Module string
	// KisGrid is the path of the module KisGrid, and Version the version to require. Replace is the folder of a checkout that is used
	// in its place, quoted as go.mod needs it; empty means that the release is used.
	KisGrid, Version, Replace string
	// Go is the version of the language for go.mod.
	Go string
	// Requires are the modules that a checkout needs, each with its version. They are empty for a release: go mod tidy finds them.
	Requires []string

	sums []byte // go.sum of the checkout; nil for a release
}

// nameText matches a name that a folder, a program and an element of a module path may have. release matches the version of a release.
var (
	nameText = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$`)
	release  = regexp.MustCompile(`^v[0-9]+\.[0-9]+\.[0-9]+(-[0-9A-Za-z.-]+)?$`)
)

// name sets the names of the project from its folder dir, and checks them and --module.
func (p *project) name(dir string) error {
	whole, err := filepath.Abs(dir)
	if err != nil {
		return fmt.Errorf("find %s: %w", dir, err)
	}
	p.Name = filepath.Base(whole)
	if !nameText.MatchString(p.Name) {
		return fmt.Errorf("the folder's name %q would be the name of the program: use letters, digits, dots, dashes and underscores, with a letter or digit at both ends", p.Name)
	}
	p.Image = strings.ToLower(p.Name)
	if p.Module == "" {
		p.Module = p.Name
	}
	for element := range strings.SplitSeq(p.Module, "/") {
		if !nameText.MatchString(element) {
			return fmt.Errorf("--module %q: %q can't be part of a module path: write a path such as example.com/school/%s", p.Module, element, p.Image)
		}
	}
	if first, _, _ := strings.Cut(p.Module, "/"); first == "std" || first == "cmd" || p.Module == modulePath || strings.HasPrefix(p.Module, modulePath+"/") {
		return fmt.Errorf("--module %q is a path of Go or of KisGrid: write a path such as example.com/school/%s", p.Module, p.Image)
	}
	return nil
}

// require decides which KisGrid the project builds with: the checkout that --replace names, the one around the current folder, or
// else the release that this program belongs to. It fills in the fields for go.mod.
func (p *project) require(checkout string) error {
	p.KisGrid, p.Version, p.Go = modulePath, command.ReadBuild().Version, strings.TrimPrefix(runtime.Version(), "go")
	if checkout == "" {
		checkout = enclosingCheckout()
	}
	if checkout == "" {
		if !release.MatchString(p.Version) {
			return errors.New("this program does not belong to a release: give the folder of a checkout of KisGrid with --replace")
		}
		return nil
	}
	whole, err := filepath.Abs(checkout)
	if err != nil {
		return fmt.Errorf("find %s: %w", checkout, err)
	}
	text, err := os.ReadFile(filepath.Join(whole, "go.mod"))
	if err != nil {
		return fmt.Errorf("read the checkout of KisGrid: %w", err)
	}
	if !isKisGrid(text) {
		return fmt.Errorf("--replace %s: its go.mod is not that of %s: give the top folder of a checkout", checkout, modulePath)
	}
	if p.sums, err = os.ReadFile(filepath.Join(whole, "go.sum")); err != nil {
		return fmt.Errorf("read the checkout of KisGrid: %w", err)
	}
	p.Version, p.Replace = "v0.0.0", quoted(filepath.ToSlash(whole))
	p.readMod(text)
	return nil
}

// readMod reads the version of Go and the required modules from the go.mod of a checkout.
func (p *project) readMod(text []byte) {
	within := false // a block require ( … )
	for line := range strings.Lines(string(text)) {
		line, _, _ = strings.Cut(line, "//") // without the comment, such as // indirect
		switch fields := strings.Fields(line); {
		case len(fields) == 0:
		case fields[0] == ")":
			within = false
		case len(fields) == 2 && fields[1] == "(":
			within = fields[0] == "require"
		case fields[0] == "go":
			p.Go = fields[1]
		case within && len(fields) == 2:
			p.Requires = append(p.Requires, fields[0]+" "+fields[1])
		case fields[0] == "require" && len(fields) == 3:
			p.Requires = append(p.Requires, fields[1]+" "+fields[2])
		}
	}
}

// enclosingCheckout returns the top folder of the checkout of KisGrid that the current folder is in; "" means that it is in none.
func enclosingCheckout() string {
	dir, err := os.Getwd()
	if err != nil {
		return ""
	}
	for {
		if text, err := os.ReadFile(filepath.Join(dir, "go.mod")); err == nil && isKisGrid(text) {
			return dir
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return ""
		}
		dir = parent
	}
}

// isKisGrid reports whether a go.mod is that of KisGrid.
func isKisGrid(mod []byte) bool {
	return bytes.HasPrefix(mod, []byte("module "+modulePath+"\n"))
}

// quoted returns a path, with quotes around it if go.mod needs them.
func quoted(path string) string {
	if strings.ContainsAny(path, " \t\"'`(),;") {
		return strconv.Quote(path)
	}
	return path
}

// first returns the command that comes first in the printed list of next steps, with a line break before it. It is "" if no such
// command is needed.
func (p *project) first() string {
	if p.Replace == "" {
		return "\n  go mod tidy"
	}
	return ""
}

// write writes the project's files, which have their templates in a folder of templates, into dir, which must be new or empty.
func (p *project) write(dir, from string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make the project's folder: %w", err)
	}
	if entries, err := os.ReadDir(dir); err != nil {
		return fmt.Errorf("look into the project's folder: %w", err)
	} else if len(entries) > 0 {
		return fmt.Errorf("%s is not empty (it has %s): name a new folder", dir, entries[0].Name())
	}
	// go:embed leaves out files whose names begin with a dot, so that the templates have names such as dot.gitignore.tmpl.
	err := fs.WalkDir(templates, from, func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := p.fill(name)
		if err != nil {
			return err
		}
		name, _ = strings.CutPrefix(strings.TrimSuffix(name, ".tmpl"), from+"/")
		folder, file := path.Split(name)
		if rest, hidden := strings.CutPrefix(file, "dot."); hidden {
			file = "." + rest
		}
		return writeNew(filepath.Join(dir, filepath.FromSlash(folder)), file, text)
	})
	if err == nil && p.sums != nil {
		err = writeNew(dir, "go.sum", p.sums)
	}
	if err != nil {
		return fmt.Errorf("write the project: %w", err)
	}
	return nil
}

// fill executes the template with this name on the data of the project, and returns the text of the file.
func (p *project) fill(name string) ([]byte, error) {
	t, err := template.ParseFS(templates, name)
	if err != nil {
		return nil, err
	}
	var text bytes.Buffer
	if err := t.Execute(&text, p); err != nil {
		return nil, err
	}
	return text.Bytes(), nil
}

// writeNew writes a file into a folder, and makes the folder if need be.
func writeNew(folder, file string, text []byte) error {
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(folder, file), text, 0o644)
}
