package definition

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/kisgrid/kisgrid/pkg/batch"
)

// ExportDir writes each document into a file of dir: flow-<name>.yaml, func-<name>.yaml, conn-<name>.yaml, global.yaml. It
// makes the folder if need be, and replaces files of these names. The text is written as it is, so that Load of a folder that
// holds nothing else gives the same documents again.
func ExportDir(dir string, docs []Document) error {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return fmt.Errorf("exporting definitions: %w", err)
	}
	var errs []error
	for _, d := range docs {
		name := string(d.Kind) + "-" + d.Name + ".yaml"
		switch _, known := kindTitles[d.Kind]; {
		case d.Kind == KindGlobal:
			name = string(KindGlobal) + ".yaml"
		case !known || nameProblem(d.Name) != "":
			errs = append(errs, batch.Errorf(batch.CodeBadDocument, "exporting %s: no kind %q with a name %q: parse the document first", d, d.Kind, d.Name))
			continue
		}
		if err := os.WriteFile(filepath.Join(dir, name), d.YAML, 0o666); err != nil {
			errs = append(errs, fmt.Errorf("exporting %s: %w", d.title(), err))
		}
	}
	return errors.Join(errs...)
}

// Marshal writes the flow, built in code or changed, as a document. What is at its default is left out. The error is what
// Parse says of the document.
func (f *Flow) Marshal() (Document, error) {
	type step struct {
		Name   string            `yaml:"fname"`
		Params map[string]string `yaml:"params,omitempty"`
	}
	text := struct {
		Kind     Kind   `yaml:"kistype"`
		Status   int    `yaml:"status"`
		Name     string `yaml:"flow_name"`
		ShardKey string `yaml:"shard_key,omitempty"`
		Copies   int    `yaml:"copies,omitempty"`
		Timeout  string `yaml:"timeout,omitempty"`
		Steps    []step `yaml:"flows"`
	}{Kind: KindFlow, Name: f.Name, ShardKey: f.ShardKey, Copies: f.Copies, Timeout: durationText(f.Timeout, DefaultFlowTimeout)}
	if f.Enabled {
		text.Status = 1
	}
	for _, s := range f.Functions {
		text.Steps = append(text.Steps, step{s.Name, s.Params})
	}
	return marshal(text)
}

// Marshal writes the function, built in code or changed, as a document. What is at its default is left out. The error is
// what Parse says of the document.
func (f *Function) Marshal() (Document, error) {
	type source struct {
		Name string   `yaml:"name,omitempty"`
		Must []string `yaml:"must,omitempty"`
	}
	type option struct {
		Connector string            `yaml:"cname,omitempty"`
		Retries   int               `yaml:"retry_times,omitempty"`
		Interval  string            `yaml:"retry_duration,omitempty"`
		Params    map[string]string `yaml:"default_params,omitempty"`
		OnMissing OnMissing         `yaml:"on_missing,omitempty"`
		Wait      string            `yaml:"wait,omitempty"`
		Save      map[string]any    `yaml:"save,omitempty"`
		Load      map[string]any    `yaml:"load,omitempty"`
	}
	text := struct {
		Kind    Kind   `yaml:"kistype"`
		Name    string `yaml:"fname"`
		Mode    Mode   `yaml:"fmode"`
		Timeout string `yaml:"timeout,omitempty"`
		Source  source `yaml:"source,omitempty"`
		Option  option `yaml:"option,omitempty"`
	}{
		Kind: KindFunc, Name: f.Name, Mode: f.Mode, Timeout: durationText(f.Timeout, DefaultFunctionTimeout),
		Source: source(f.Source),
		Option: option{
			Connector: f.Connector, Retries: f.RetryTimes, Interval: durationText(f.RetryInterval, 0),
			Params: f.DefaultParams, OnMissing: f.OnMissing, Wait: durationText(f.Wait, DefaultWait),
		},
	}
	if f.OnMissing == OnMissingWait {
		text.Option.OnMissing = ""
	}
	if s := f.Save; s != nil {
		text.Option.Save = map[string]any{"key": s.Key.Text, string(s.Op): s.Fields}
		if s.Op == SaveDelete {
			text.Option.Save[string(s.Op)] = true
		}
	}
	if l := f.Load; l != nil {
		text.Option.Load = map[string]any{"key": l.Key.Text, "set": l.Fields}
	}
	return marshal(text)
}

// Marshal writes the connector, built in code or changed, as a document. What is at its default is left out. The error is
// what Parse says of the document.
func (c *Connector) Marshal() (Document, error) {
	return marshal(struct {
		Kind         Kind              `yaml:"kistype"`
		Name         string            `yaml:"cname"`
		Type         string            `yaml:"type"`
		Addrs        string            `yaml:"addrs,omitempty"`
		Key          string            `yaml:"key,omitempty"`
		TLS          bool              `yaml:"tls,omitempty"`
		Username     string            `yaml:"username,omitempty"`
		PasswordFile string            `yaml:"password_file,omitempty"`
		Replicas     int               `yaml:"replicas,omitempty"`
		Params       map[string]string `yaml:"params,omitempty"`
		Load         []string          `yaml:"load,omitempty"`
		Save         []string          `yaml:"save,omitempty"`
	}{KindConn, c.Name, c.Type, strings.Join(c.Addrs, ","), c.Key, c.TLS, c.Username, c.PasswordFile, c.Replicas, c.Params, c.Load, c.Save})
}

// Marshal writes the settings as a document.
func (g *Global) Marshal() (Document, error) {
	return marshal(struct {
		Kind   Kind   `yaml:"kistype"`
		Enable bool   `yaml:"prometheus_enable"`
		Listen bool   `yaml:"prometheus_listen"`
		Serve  string `yaml:"prometheus_serve,omitempty"`
	}{KindGlobal, g.PrometheusEnable, g.PrometheusListen, g.PrometheusServe})
}

// marshal writes a document and has Parse check it.
func marshal(text any) (Document, error) {
	var out bytes.Buffer
	encoder := yaml.NewEncoder(&out)
	encoder.SetIndent(2)
	if err := errors.Join(encoder.Encode(text), encoder.Close()); err != nil {
		return Document{}, batch.Errorf(batch.CodeBadDocument, "writing a document: %w", err)
	}
	p, err := Parse(Document{YAML: out.Bytes()})
	return p.Document(), err
}

// durationText is empty for a duration that need not be written.
func durationText(d, byDefault time.Duration) string {
	if d == 0 || d == byDefault {
		return ""
	}
	return d.String()
}
