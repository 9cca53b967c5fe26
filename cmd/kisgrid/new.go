package main

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
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

// modulePath is KisGrid's.
const modulePath = "github.com/kisgrid/kisgrid"

//go:embed template
var templates embed.FS

func newCommand() *cobra.Command {
	var p project
	var replace string
	cmd := &cobra.Command{
		Use:   "new DIR",
		Short: "Write a project of your own: functions, a flow, a test, a worker",
		Long: `new writes a Go project into DIR, a new or empty folder: a flow with two functions, their documents, a test, the main
function of a worker, a Dockerfile. It builds and passes its test as it is.

The project needs the module ` + modulePath + `. With --replace it takes it from a checkout of KisGrid; within a
checkout that is the default.`,
		Example: "  kisgrid new grades\n  kisgrid new grades --module example.com/school/grades --replace ../kisgrid",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			dir := args[0]
			if err := p.name(dir); err != nil {
				return err
			}
			if err := p.require(replace); err != nil {
				return err
			}
			if err := p.write(dir); err != nil {
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
	cmd.Flags().StringVar(&p.Module, "module", "", "the project's module `path` (default: DIR's name)")
	cmd.Flags().StringVar(&replace, "replace", "", "`folder` of a checkout of KisGrid to build with (default: the one around the current folder, else the release of this program)")
	return cmd
}

// project is what the templates are filled in with.
type project struct {
	Name, Image, Module string
	// KisGrid is its module's path, Version the one to require, Replace the folder that stands for it, as go.mod quotes it.
	KisGrid, Version, Replace string
	// Go is the language's version.
	Go string
	// Requires are the modules with versions that a checkout needs; a release tells them itself.
	Requires []string

	sums []byte // go.sum of the checkout
}

var (
	nameText = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$`)
	release  = regexp.MustCompile(`^v[0-9]+\.[0-9]+\.[0-9]+(-[0-9A-Za-z.-]+)?$`)
)

// name finds the project's names, and checks them.
func (p *project) name(dir string) error {
	whole, err := filepath.Abs(dir)
	if err != nil {
		return fmt.Errorf("find %s: %w", dir, err)
	}
	p.Name = filepath.Base(whole)
	if !nameText.MatchString(p.Name) {
		return fmt.Errorf("the folder's name %q is the program's too: use letters, digits, dots, dashes and underscores, with a letter or digit at both ends", p.Name)
	}
	p.Image = strings.ToLower(p.Name)
	if p.Module == "" {
		p.Module = p.Name
	}
	for element := range strings.SplitSeq(p.Module, "/") {
		if !nameText.MatchString(element) {
			return fmt.Errorf("--module %q: %q is no element of a module's path: write one such as example.com/school/%s", p.Module, element, p.Image)
		}
	}
	if first, _, _ := strings.Cut(p.Module, "/"); first == "std" || first == "cmd" || p.Module == modulePath || strings.HasPrefix(p.Module, modulePath+"/") {
		return fmt.Errorf("--module %q is taken: write one of your own, such as example.com/school/%s", p.Module, p.Image)
	}
	return nil
}

// require finds the KisGrid to build with: a checkout, else the release that this program is of.
func (p *project) require(checkout string) error {
	p.KisGrid, p.Version, p.Go = modulePath, command.ReadBuild().Version, strings.TrimPrefix(runtime.Version(), "go")
	if checkout == "" {
		checkout = enclosingCheckout()
	}
	if checkout == "" {
		if !release.MatchString(p.Version) {
			return errors.New("this program is of no release: say with --replace where a checkout of KisGrid is")
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
		return fmt.Errorf("--replace %s: its go.mod is not that of %s: name the top folder of a checkout", checkout, modulePath)
	}
	if p.sums, err = os.ReadFile(filepath.Join(whole, "go.sum")); err != nil {
		return fmt.Errorf("read the checkout of KisGrid: %w", err)
	}
	p.Version, p.Replace = "v0.0.0", quoted(filepath.ToSlash(whole))
	p.readMod(text)
	return nil
}

// readMod takes over what a checkout's go.mod requires.
func (p *project) readMod(text []byte) {
	within := false
	for line := range strings.Lines(string(text)) {
		line, _, _ = strings.Cut(line, "//")
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

// enclosingCheckout is the checkout of KisGrid that the current folder is in; empty for none.
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

func isKisGrid(mod []byte) bool {
	return bytes.HasPrefix(mod, []byte("module "+modulePath+"\n"))
}

// quoted is a path as go.mod takes it.
func quoted(path string) string {
	if strings.ContainsAny(path, " \t\"'`(),;") {
		return strconv.Quote(path)
	}
	return path
}

// first is what has to be done before anything else.
func (p *project) first() string {
	if p.Replace == "" {
		return "\n  go mod tidy"
	}
	return ""
}

// write writes the project into a folder that is not there yet, or has nothing in it.
func (p *project) write(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make the project's folder: %w", err)
	}
	if entries, err := os.ReadDir(dir); err != nil {
		return fmt.Errorf("look into the project's folder: %w", err)
	} else if len(entries) > 0 {
		return fmt.Errorf("%s is not empty (it has %s): name a new folder", dir, entries[0].Name())
	}
	err := fs.WalkDir(templates, "template", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := p.fill(name)
		if err != nil {
			return err
		}
		name, _ = strings.CutPrefix(strings.TrimSuffix(name, ".tmpl"), "template/")
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

func writeNew(folder, file string, text []byte) error {
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(folder, file), text, 0o644)
}
