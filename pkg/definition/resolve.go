package definition

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/kisgrid/kisgrid/pkg/batch"
)

// Resolve returns a copy of the connector in which each ${NAME} is replaced by the value of that variable. lookup returns a
// variable's value, and false if it is not set, as os.LookupEnv does. The error names each variable that is missing and has no
// default.
func (c *Connector) Resolve(lookup func(string) (string, bool)) (*Connector, error) {
	r, _, err := c.ResolveSecrets(lookup)
	return r, err
}

// ResolveSecrets does the same as Resolve. It also returns the values that came from variables, as secrets: only this process
// is to know them, so that no message may show them. Defaults in the document are no secrets.
func (c *Connector) ResolveSecrets(lookup func(string) (string, bool)) (*Connector, []Secret, error) {
	var mistakes Mistakes
	var secrets []Secret
	note := func(shown, value string) {
		if s := (Secret{shown, value}); value != "" && !slices.Contains(secrets, s) {
			secrets = append(secrets, s)
		}
	}
	resolve := func(key, value string) string {
		filled := false
		resolved, err := expand(value, func(name string) (string, bool) {
			text, ok := lookup(name)
			if ok {
				filled = true
				note("${"+name+"}", text)
			}
			return text, ok
		})
		if filled {
			note(value, resolved) // a short value is not recognized between letters, so the whole text is a secret too
		}
		if err != nil {
			mistakes = append(mistakes, &Mistake{Document: c.Document.String(), Key: key, Code: batch.CodeBadDocument, Problem: err.Error()})
		}
		return resolved
	}
	r := *c
	r.Addrs = nil
	for _, addr := range c.Addrs {
		r.Addrs = append(r.Addrs, splitAddrs(resolve("addrs", addr))...)
	}
	r.Key = resolve("key", c.Key)
	if c.Params != nil {
		r.Params = make(map[string]string, len(c.Params))
		for _, name := range sortedKeys(c.Params) {
			r.Params[name] = resolve("params."+name, c.Params[name])
		}
	}
	r.Username = resolve("username", c.Username)
	r.PasswordFile = resolve("password_file", c.PasswordFile)
	if err := mistakes.err(); err != nil {
		return nil, nil, err
	}
	return &r, secrets, nil
}

// expand replaces each ${NAME} and ${NAME:default} in a value with the variable's value or the default. If lookup is nil, it
// only checks the spelling, and the text returned means nothing. It is an error if a variable is missing or a reference is
// misspelt.
func expand(value string, lookup func(string) (string, bool)) (string, error) {
	var out strings.Builder
	var missing []string
	for {
		before, rest, found := strings.Cut(value, "${")
		if !found {
			out.WriteString(value)
			if len(missing) > 0 {
				return "", fmt.Errorf("needs %s, which the environment here does not have: set it, or write a default as ${NAME:default}",
					strings.Join(missing, " and "))
			}
			return out.String(), nil
		}
		if literal, escaped := strings.CutSuffix(before, "$"); escaped {
			out.WriteString(literal + "${")
			value = rest
			continue
		}
		reference, after, closed := strings.Cut(rest, "}")
		if !closed {
			return "", errors.New("has a ${ without its }: a literal ${ is written $${")
		}
		name, fallback, hasFallback := strings.Cut(reference, ":")
		if !validVariable(name) {
			return "", fmt.Errorf("has ${%s}, which names no variable: write ${NAME} or ${NAME:default}; a literal ${ is written $${", reference)
		}
		out.WriteString(before)
		if lookup != nil {
			v, ok := lookup(name)
			switch {
			case ok:
				out.WriteString(v)
			case hasFallback:
				out.WriteString(fallback)
			default:
				missing = append(missing, name)
			}
		}
		value = after
	}
}

// validVariable reports whether a text can be the name of an environment variable.
func validVariable(name string) bool {
	for i := range len(name) {
		c := name[i]
		letter := c == '_' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
		if !letter && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return name != ""
}

// splitAddrs splits a list of addresses at its commas, except for those within ${…}, and drops spaces and empty addresses.
func splitAddrs(s string) []string {
	var addrs []string
	start, inside := 0, false
	for i := 0; i <= len(s); i++ {
		switch {
		case i == len(s) || s[i] == ',' && !inside:
			if addr := strings.TrimSpace(s[start:i]); addr != "" {
				addrs = append(addrs, addr)
			}
			start = i + 1
		case strings.HasPrefix(s[i:], "$${"):
			i += len("$${") - 1
		case strings.HasPrefix(s[i:], "${"):
			inside = true
		case s[i] == '}':
			inside = false
		}
	}
	return addrs
}

// joinAddrs joins addresses to one text, which splitAddrs splits again.
func joinAddrs(addrs []string) string { return strings.Join(addrs, ",") }
