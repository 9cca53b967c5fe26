package definition

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/expr"
)

// FileName returns the name of the file into which ExportDir writes a document: flow-<name>.yaml, func-<name>.yaml, conn-<name>.yaml or
// global.yaml. File systems take names of 255 bytes at most: a longer one is cut, and gets a part of the hash of the whole name.
func (d Document) FileName() string {
	if d.Kind == KindGlobal {
		return string(KindGlobal) + ".yaml"
	}
	const most, end = 255, ".yaml"
	name := string(d.Kind) + "-" + d.Name
	if len(name)+len(end) <= most {
		return name + end
	}
	hash := sha256.Sum256([]byte(name))
	mark := "-" + hex.EncodeToString(hash[:8])
	return strings.ToValidUTF8(name[:most-len(end)-len(mark)], "") + mark + end
}

// ExportDir writes each document into a file of a folder, whose name is the document's FileName. It
// makes the folder if there is none, and replaces files of these names. A document's YAML is written as it is. If the folder has
// no other files, Load reads the same documents back. An error about one document does not keep the others from being written;
// all errors are joined.
func ExportDir(dir string, docs []Document) error {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return fmt.Errorf("exporting definitions: %w", err)
	}
	var errs []error
	for _, d := range docs {
		switch _, known := kindTitles[d.Kind]; {
		case d.Kind == KindGlobal:
		case !known || nameProblem(d.Name) != "":
			errs = append(errs, batch.Errorf(batch.CodeBadDocument, "exporting %s: no kind %q with a name %q: parse the document first", d, d.Kind, d.Name))
			continue
		}
		if err := os.WriteFile(filepath.Join(dir, d.FileName()), d.YAML, 0o666); err != nil {
			errs = append(errs, fmt.Errorf("exporting %s: %w", d.title(), err))
		}
	}
	return errors.Join(errs...)
}

// Marshal writes a flow, which a program made or changed, as a document. Values that are at their default are left out. The error
// is that of Parse for the document.
func (f *Flow) Marshal() (Document, error) {
	w := newWriter()
	w.text("kistype", string(KindFlow))
	if f.Enabled {
		w.put("status", &yaml.Node{Kind: yaml.ScalarNode, Value: "1"})
	} else {
		w.put("status", &yaml.Node{Kind: yaml.ScalarNode, Value: "0"})
	}
	w.put("flow_name", textNode(f.Name))
	w.text("shard_key", f.ShardKey)
	w.integer("copies", f.Copies)
	w.duration("timeout", f.Timeout, DefaultFlowTimeout)
	steps := &yaml.Node{Kind: yaml.SequenceNode}
	for _, function := range f.Functions {
		step := newWriter()
		step.put("fname", textNode(function.Name))
		step.textMap("params", function.Params)
		steps.Content = append(steps.Content, step.node)
	}
	w.put("flows", steps)
	return w.document()
}

// Marshal writes a function, which a program made or changed, as a document. Values that are at their default are left out. The
// error is that of Parse for the document.
func (f *Function) Marshal() (Document, error) {
	w := newWriter()
	w.text("kistype", string(KindFunc))
	w.put("fname", textNode(f.Name))
	w.text("fmode", string(f.Mode))
	w.duration("timeout", f.Timeout, DefaultFunctionTimeout)

	source := newWriter()
	source.text("name", f.Source.Name)
	source.texts("must", f.Source.Must)
	fields := newWriter()
	for _, field := range f.Source.Fields.Fields() {
		fields.put(field.Name, textNode(field.Type.String()))
	}
	source.object("fields", fields)
	w.object("source", source)

	option := newWriter()
	option.text("cname", f.Connector)
	option.integer("retry_times", f.RetryTimes)
	option.duration("retry_duration", f.RetryInterval, 0)
	if f.OnMissing != OnMissingWait {
		option.text("on_missing", string(f.OnMissing))
	}
	option.duration("wait", f.Wait, DefaultWait)
	option.textMap("default_params", f.DefaultParams)
	if f.Save != nil {
		save := newWriter()
		save.put("key", keyNode(f.Save.Key, f.Save.KeyExpression))
		save.flag("delete", f.Save.Op == SaveDelete)
		save.textMap(string(f.Save.Op), f.Save.Fields)
		option.object("save", save)
	}
	if f.Load != nil {
		load := newWriter()
		load.put("key", keyNode(f.Load.Key, f.Load.KeyExpression))
		load.textMap("set", f.Load.Fields)
		types := make(map[string]string, len(f.Load.Types))
		for name, kind := range f.Load.Types {
			types[name] = string(kind)
		}
		load.textMap("types", types)
		option.object("load", load)
	}
	f.writeExpressions(option)
	w.object("option", option)
	return w.document()
}

// keyNode makes the YAML node of the key of a declared Save or Load.
func keyNode(t Template, e *expr.Source) *yaml.Node {
	if e != nil {
		return textNode("= " + strings.TrimSpace(e.Text))
	}
	return textNode(t.Text)
}

// writeExpressions adds the function's expressions to option.
func (f *Function) writeExpressions(option writer) {
	named := func(all []NamedExpression) writer {
		w := newWriter()
		for _, e := range all {
			w.put(e.Name, textNode(e.Text))
		}
		return w
	}
	if f.Verify != nil {
		option.text("verify", f.Verify.If.Text)
		if f.Verify.Reason != nil {
			option.text("reason", f.Verify.Reason.Text)
		}
	}
	if f.Calculate != nil {
		option.object("calculate", named(f.Calculate.Fields))
		option.texts("keep", f.Calculate.Keep)
		if f.Calculate.KeepAll {
			option.text("keep", "all")
		}
	}
	if f.Expand != nil {
		e := newWriter()
		e.text("each", f.Expand.Each.Text)
		e.text("as", f.Expand.As)
		if f.Expand.Where != nil {
			e.text("where", f.Expand.Where.Text)
		}
		e.object("set", named(f.Expand.Set))
		option.object("expand", e)
	}
}

// Marshal writes a connector, which a program made or changed, as a document. Values that are at their default are left out. The
// error is that of Parse for the document.
func (c *Connector) Marshal() (Document, error) {
	w := newWriter()
	w.text("kistype", string(KindConn))
	w.put("cname", textNode(c.Name))
	w.text("type", c.Type)
	w.text("addrs", joinAddrs(c.Addrs))
	w.text("key", c.Key)
	w.flag("tls", c.TLS)
	w.text("username", c.Username)
	w.text("password_file", c.PasswordFile)
	w.integer("replicas", c.Replicas)
	w.texts("flows", c.Flows)
	w.textMap("params", c.Params)
	w.texts("load", c.Load)
	w.texts("save", c.Save)
	return w.document()
}

// Marshal writes settings, which a program made or changed, as a document. Settings that are off or empty are left out. The error
// is that of Parse for the document.
func (g *Global) Marshal() (Document, error) {
	w := newWriter()
	w.text("kistype", string(KindGlobal))
	w.flag("prometheus_enable", g.PrometheusEnable)
	w.flag("prometheus_listen", g.PrometheusListen)
	w.text("prometheus_serve", g.PrometheusServe)
	return w.document()
}
