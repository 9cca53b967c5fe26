package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// contexts is the content of the file with contexts. A context says how to reach a cluster, and as whom.
type contexts struct {
	// Current is the name of the context that commands use; empty means none.
	Current  string                    `yaml:"current,omitempty"`
	Contexts map[string]clusterContext `yaml:"contexts,omitempty"`
}

// clusterContext is what a context has in place of the flags of the same names. Paths are absolute. The token itself is not here.
type clusterContext struct {
	Server         string `yaml:"server"`
	TLSCA          string `yaml:"tls_ca,omitempty"`
	TLSCert        string `yaml:"tls_cert,omitempty"`
	TLSKey         string `yaml:"tls_key,omitempty"`
	TLSServerName  string `yaml:"tls_server_name,omitempty"`
	TokenFile      string `yaml:"token_file,omitempty"`
	TokenPlaintext bool   `yaml:"token_plaintext,omitempty"`
}

// contextsPath returns the path of the file with contexts: KISGRID_CONFIG, or kisgrid/config.yml in the user's folder for settings.
func contextsPath() (string, error) {
	if path := os.Getenv("KISGRID_CONFIG"); path != "" {
		return path, nil
	}
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", fmt.Errorf("find the file with contexts: %w: name one with KISGRID_CONFIG", err)
	}
	return filepath.Join(dir, "kisgrid", "config.yml"), nil
}

// readContexts reads the file with contexts. A file that is not there has none.
func readContexts() (contexts, error) {
	path, err := contextsPath()
	if err != nil {
		return contexts{}, err
	}
	var c contexts
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return c, nil
	}
	if err != nil {
		return c, fmt.Errorf("read the contexts: %w", err)
	}
	defer f.Close()
	in := yaml.NewDecoder(f)
	in.KnownFields(true)
	if err := in.Decode(&c); err != nil && !errors.Is(err, io.EOF) {
		return c, fmt.Errorf("read the contexts in %s: %w", path, err)
	}
	return c, nil
}

// write replaces the file with contexts. Only the user may read it. A crash leaves the old file or the new one.
func (c *contexts) write() error {
	path, err := contextsPath()
	if err != nil {
		return err
	}
	text, err := yaml.Marshal(c)
	if err != nil {
		return fmt.Errorf("write the contexts: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("write the contexts: %w", err)
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".config-*") // a file of CreateTemp is for its user only
	if err != nil {
		return fmt.Errorf("write the contexts: %w", err)
	}
	defer os.Remove(f.Name()) // after the rename there is nothing to remove
	_, err = f.Write(text)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("write the contexts: %w", err)
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return fmt.Errorf("write the contexts: %w", err)
	}
	return nil
}

// named returns the context of a name.
func (c *contexts) named(name string) (clusterContext, error) {
	if found, there := c.Contexts[name]; there {
		return found, nil
	}
	if len(c.Contexts) == 0 {
		return clusterContext{}, fmt.Errorf("there is no context %q: kisgrid config set-context makes one", name)
	}
	return clusterContext{}, fmt.Errorf("there is no context %q: there are %s", name, strings.Join(slices.Sorted(maps.Keys(c.Contexts)), ", "))
}
