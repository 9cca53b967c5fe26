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

// Access says which environment variables and files of a process the documents of connectors may read, and where they may connect to. It protects secrets:
// somebody who may write documents could otherwise read any secret of the process, since the document also names the address to
// which it is sent. The zero Access is the default.
type Access struct {
	// Env are the names of environment variables that ${NAME} may use. A name with a * at its end stands for all names that begin
	// so. nil, the default, means all variables except those of KisGrid's own programs, KISGRID_* and OTEL_*.
	Env []string
	// Files are the folders in which the files of password_file, tls_ca, tls_cert and tls_key may lie. The place counts at which
	// a file really lies, after .. and symbolic links are followed. nil, the default, means no folder.
	Files []string
	// Addresses are the addresses to which connectors may connect, each in one of these forms: host or host:port, where the host may begin
	// with *. for all names below a domain, or be * for all hosts; a range of IP addresses such as 10.0.0.0/8, which has the hosts that a
	// document names by IP address; or the path of a unix socket. nil, the default, means all addresses. Only addresses that stand in the
	// document count: nodes that a Sentinel or a Cluster names are not checked.
	Addresses []string
}

// programs are patterns of the names of variables that belong to KisGrid's own programs, and that may have their secrets.
var programs = []string{"KISGRID_*", "OTEL_*"}

// fileParams are the names of those parameters of connectors whose values are paths of files.
var fileParams = []string{"tls_ca", "tls_cert", "tls_key"}

// Valid returns an error if an entry of Env can't be the name of a variable or a pattern for names, or if an entry of Files is
// empty.
func (a Access) Valid() error {
	for _, name := range a.Env {
		if prefix, open := strings.CutSuffix(name, "*"); !validVariable(name) && (!open || prefix != "" && !validVariable(prefix)) {
			return fmt.Errorf("%q names no environment variable: give NAME, or PREFIX* for all that begin so", name)
		}
	}
	if slices.Contains(a.Files, "") {
		return errors.New("a folder has no name: give the path of each")
	}
	for _, entry := range a.Addresses {
		if _, err := parseAddressRule(entry); err != nil {
			return err
		}
	}
	return nil
}

// Environment returns a function that looks up variables as lookup does, but finds only those that documents may read.
func (a Access) Environment(lookup func(string) (string, bool)) func(string) (string, bool) {
	return func(name string) (string, bool) {
		if !a.readsName(name) {
			return "", false
		}
		return lookup(name)
	}
}

// readsName reports whether documents may read the environment variable with the given name.
func (a Access) readsName(name string) bool {
	if a.Env == nil {
		return !matches(programs, name)
	}
	return matches(a.Env, name)
}

// matches reports whether a name matches one of the patterns. A pattern with a * at its end matches all names that begin so; any
// other pattern matches only itself.
func matches(patterns []string, name string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool {
		prefix, open := strings.CutSuffix(pattern, "*")
		return pattern == name || open && strings.HasPrefix(name, prefix)
	})
}

// CheckNames returns an error if a connector's document uses environment variables that it may not read. accepted means that a
// cluster took in the document earlier: if a.Env is nil, so that only the default forbids the variables, CheckNames returns
// warnings then, and no error.
func (a Access) CheckNames(c *Connector, accepted bool) (warnings []string, err error) {
	var mistakes Mistakes
	c.eachValue(func(key, value string) {
		_, _ = expand(value, func(name string) (string, bool) {
			if !a.readsName(name) {
				mistakes = append(mistakes, &Mistake{Document: c.Document.String(), Line: c.Document.LineOf(key), Key: key, Code: batch.CodeBadDocument, Problem: fmt.Sprintf(
					"reads ${%s}, which documents may not read: it is not among the names that this process's --document-env allows%s", name, defaultOf(a.Env == nil, "; by default those are all but KISGRID_* and OTEL_*"))})
			}
			return "", true
		})
	})
	return mistakes.unless(accepted && a.Env == nil)
}

// CheckFiles returns an error if a connector's document names files that it may not read. The document must be resolved: it must
// have no ${NAME} any more. accepted means the same as for CheckNames, with a.Files in place of a.Env. CheckFiles follows
// symbolic links to find out where the files lie, and does not open them.
func (a Access) CheckFiles(c *Connector, accepted bool) (warnings []string, err error) {
	var mistakes Mistakes
	c.eachFile(func(key, path string) {
		if !a.readsFile(path) {
			mistakes = append(mistakes, &Mistake{Document: c.Document.String(), Line: c.Document.LineOf(key), Key: key, Code: batch.CodeBadDocument, Problem: fmt.Sprintf(
				"names the file %s, which documents may not read: it lies in no folder that this process's --document-files names%s", path, defaultOf(a.Files == nil, "; by default there are none"))})
		}
	})
	return mistakes.unless(accepted && a.Files == nil)
}

// CheckSet returns the errors of CheckNames, CheckFiles and CheckAddresses for all connectors of a set, as for documents that are new. A file
// whose path has a ${NAME} in it is not checked, and neither is such an address: workers check them when they know the value.
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
		c.Addrs = slices.DeleteFunc(slices.Clone(c.Addrs), func(addr string) bool { return strings.Contains(addr, "${") })
		for _, err := range []error{wrongNames, wrongFiles, a.CheckAddresses(&c)} {
			more, _ := errors.AsType[Mistakes](err)
			mistakes = append(mistakes, more...)
		}
	}
	return mistakes.err()
}

// defaultOf returns text if is is true, otherwise "". text is the end of an error message that says what documents may read by
// default; is says whether the default is in force.
func defaultOf(is bool, text string) string {
	if is {
		return text
	}
	return ""
}

// unless returns the mistakes as an error, or as warnings without an error if accepted is true.
func (ms Mistakes) unless(accepted bool) (warnings []string, err error) {
	if !accepted {
		return nil, ms.err()
	}
	for _, m := range ms {
		warnings = append(warnings, m.Error())
	}
	return warnings, nil
}

// eachValue calls f for each value of the connector's document that may have ${NAME} in it, with the value's key.
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

// eachFile calls f for each file that the connector's document names, with the key that names it.
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

// readsFile reports whether a file lies in one of the folders in Files, or in folders within them, after symbolic links are
// followed. A path that can't be followed does not.
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

// whereabouts returns the absolute path of a file after symbolic links are followed. For a file that does not exist, it is the
// path at which the file would be made. It is an error if a link on the way leads nowhere or can't be read.
func whereabouts(path string) (string, error) {
	if !filepath.IsAbs(path) {
		here, err := os.Getwd()
		if err != nil {
			return "", err
		}
		path = here + string(filepath.Separator) + path // filepath.Join would drop a .. together with a link before it
	}
	resolved, err := filepath.EvalSymlinks(path)
	if err == nil || slices.Contains(strings.Split(filepath.ToSlash(path), "/"), "..") {
		return resolved, err
	}
	for behind := ""; ; {
		info, errLink := os.Lstat(path)
		if errLink == nil && info.Mode()&os.ModeSymlink != 0 || !errors.Is(err, os.ErrNotExist) || filepath.Dir(path) == path {
			return "", err // it is a link that leads nowhere yet, or may not be looked at
		}
		behind, path = filepath.Join(filepath.Base(path), behind), filepath.Dir(path)
		if resolved, err = filepath.EvalSymlinks(path); err == nil {
			return filepath.Join(resolved, behind), nil
		}
	}
}
