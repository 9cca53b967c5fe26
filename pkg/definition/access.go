package definition

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/kisgrid/kisgrid/pkg/batch"
)

// Access says what of a process its connectors' documents may read: whoever may write a document also names the address to which
// it goes. The zero Access is the default.
type Access struct {
	// Env are names of environment variables, or beginnings of names with a * behind them, that ${NAME} may name. Default (nil):
	// all but those of KisGrid's programs, KISGRID_* and OTEL_*.
	Env []string
	// Files are folders in which password_file, tls_ca, tls_cert and tls_key may lie. What counts is where a file really lies:
	// .. and symbolic links are followed first. Default (nil): none.
	Files []string
}

// programs begin the names of variables that are our programs' own, with their secrets among them.
var programs = []string{"KISGRID_*", "OTEL_*"}

// fileParams are the parameters that name files.
var fileParams = []string{"tls_ca", "tls_cert", "tls_key"}

// Valid says what is wrong with the names.
func (a Access) Valid() error {
	for _, name := range a.Env {
		if prefix, open := strings.CutSuffix(name, "*"); !validVariable(name) && (!open || prefix != "" && !validVariable(prefix)) {
			return fmt.Errorf("%q names no environment variable: give NAME, or PREFIX* for all that begin so", name)
		}
	}
	if slices.Contains(a.Files, "") {
		return errors.New("a folder has no name: give the path of each")
	}
	return nil
}

// Environment is lookup for the names that documents may read.
func (a Access) Environment(lookup func(string) (string, bool)) func(string) (string, bool) {
	return func(name string) (string, bool) {
		if !a.readsName(name) {
			return "", false
		}
		return lookup(name)
	}
}

func (a Access) readsName(name string) bool {
	if a.Env == nil {
		return !matches(programs, name)
	}
	return matches(a.Env, name)
}

func matches(patterns []string, name string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool {
		prefix, open := strings.CutSuffix(pattern, "*")
		return pattern == name || open && strings.HasPrefix(name, prefix)
	})
}

// CheckNames says which variables c names that documents may not read. With taken, the document runs already: what the default
// alone forbids is then a warning.
func (a Access) CheckNames(c *Connector, taken bool) (warnings []string, err error) {
	var mistakes Mistakes
	c.eachValue(func(key, value string) {
		_, _ = expand(value, func(name string) (string, bool) {
			if !a.readsName(name) {
				mistakes = append(mistakes, &Mistake{Document: c.Document.String(), Line: c.Document.LineOf(key), Key: key, Code: batch.CodeBadDocument, Problem: fmt.Sprintf(
					"reads ${%s}, which documents may not: it is no name that this process's --document-env allows%s", name, defaultOf(a.Env == nil, "; by default those are all but KISGRID_* and OTEL_*"))})
			}
			return "", true
		})
	})
	return mistakes.unless(taken && a.Env == nil)
}

// CheckFiles says which files c, resolved, names that documents may not read; taken is as for CheckNames. It looks where the
// files lie, and does not open them.
func (a Access) CheckFiles(c *Connector, taken bool) (warnings []string, err error) {
	var mistakes Mistakes
	c.eachFile(func(key, path string) {
		if !a.readsFile(path) {
			mistakes = append(mistakes, &Mistake{Document: c.Document.String(), Line: c.Document.LineOf(key), Key: key, Code: batch.CodeBadDocument, Problem: fmt.Sprintf(
				"names the file %s, which documents may not read: it lies in no folder that this process's --document-files names%s", path, defaultOf(a.Files == nil, "; by default there are none"))})
		}
	})
	return mistakes.unless(taken && a.Files == nil)
}

// CheckSet is CheckNames and CheckFiles for all connectors of a set, as new documents. Files that ${NAME} has a part in are left to
// workers.
func (a Access) CheckSet(s *Set) error {
	var mistakes Mistakes
	for _, name := range sortedKeys(s.Connectors) {
		c := *s.Connectors[name]
		_, wrongNames := a.CheckNames(&c, false)
		if strings.Contains(c.PasswordFile, "${") {
			c.PasswordFile = ""
		}
		c.Params = maps.Clone(c.Params)
		maps.DeleteFunc(c.Params, func(_, value string) bool { return strings.Contains(value, "${") })
		_, wrongFiles := a.CheckFiles(&c, false)
		for _, err := range []error{wrongNames, wrongFiles} {
			more, _ := errors.AsType[Mistakes](err)
			mistakes = append(mistakes, more...)
		}
	}
	return mistakes.err()
}

func defaultOf(is bool, text string) string {
	if is {
		return text
	}
	return ""
}

// unless makes mistakes warnings where nothing may be refused.
func (ms Mistakes) unless(accepted bool) (warnings []string, err error) {
	if !accepted {
		return nil, ms.err()
	}
	for _, m := range ms {
		warnings = append(warnings, m.Error())
	}
	return warnings, nil
}

// eachValue calls f for each value that may have ${NAME}.
func (c *Connector) eachValue(f func(key, value string)) {
	for _, addr := range c.Addrs {
		f("addrs", addr)
	}
	f("key", c.Key)
	for _, name := range sortedKeys(c.Params) {
		f("params."+name, c.Params[name])
	}
	f("username", c.Username)
	f("password_file", c.PasswordFile)
}

func (c *Connector) eachFile(f func(key, path string)) {
	if c.PasswordFile != "" {
		f("password_file", c.PasswordFile)
	}
	for _, name := range fileParams {
		if path := c.Params[name]; path != "" {
			f("params."+name, path)
		}
	}
}

// readsFile reports whether a file lies in one of the folders.
func (a Access) readsFile(path string) bool {
	at, err := whereabouts(path)
	return err == nil && slices.ContainsFunc(a.Files, func(folder string) bool {
		in, err := whereabouts(folder)
		if err != nil {
			return false
		}
		rest, err := filepath.Rel(in, at)
		return err == nil && filepath.IsLocal(rest) && rest != "."
	})
}

// whereabouts is where a path leads, symbolic links followed; what does not exist lies where it would be made.
func whereabouts(path string) (string, error) {
	if !filepath.IsAbs(path) {
		here, err := os.Getwd()
		if err != nil {
			return "", err
		}
		path = here + string(filepath.Separator) + path // not joined: a .. goes back from where a link before it leads
	}
	resolved, err := filepath.EvalSymlinks(path)
	if err == nil || slices.Contains(strings.Split(filepath.ToSlash(path), "/"), "..") {
		return resolved, err
	}
	for behind := ""; ; {
		info, errLink := os.Lstat(path)
		if errLink == nil && info.Mode()&os.ModeSymlink != 0 || !errors.Is(err, os.ErrNotExist) || filepath.Dir(path) == path {
			return "", err // a link that leads nowhere yet, or what may not be looked at
		}
		behind, path = filepath.Join(filepath.Base(path), behind), filepath.Dir(path)
		if resolved, err = filepath.EvalSymlinks(path); err == nil {
			return filepath.Join(resolved, behind), nil
		}
	}
}
