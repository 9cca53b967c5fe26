// Package file reads flows from folders of YAML documents, and writes them there.
package file

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/kisgrid/kisgrid/internal/yamltext"
	"github.com/kisgrid/kisgrid/pkg/definition"
	"github.com/kisgrid/kisgrid/pkg/kis"
	"github.com/kisgrid/kisgrid/pkg/kis/config"
	"github.com/kisgrid/kisgrid/pkg/kis/flow"
	"github.com/kisgrid/kisgrid/pkg/kis/log"
	"github.com/kisgrid/kisgrid/pkg/kis/metrics"
)

// ConfigImportYaml reads the documents of a folder, and registers the flows in them with kis.Pool, as Import does. If there is a
// document with settings of the process (kistype: global), these are stored in config.GlobalConfig and take effect before the
// flows are made, also if that fails then.
func ConfigImportYaml(path string) error {
	set, err := load(path, kis.Pool())
	if err != nil {
		return err
	}
	if g := set.Global; g != nil {
		*config.GlobalConfig = config.KisGlobalConfig{
			KisType: string(definition.KindGlobal), EnableProm: g.PrometheusEnable, PrometheusListen: g.PrometheusListen, PrometheusServe: g.PrometheusServe,
		}
		if err := metrics.Start(); err != nil {
			return fmt.Errorf("import %s: %w", path, err)
		}
	}
	return build(path, set, kis.Pool())
}

// Import reads the documents of a folder, makes the flows in them, and registers them with r: GetFlow of r returns them. A flow
// replaces the one that had its name before; a disabled flow is left out. Connectors for which CaaSInit has registered a
// function are opened. If there is an error, no flow is registered. The error has all mistakes of all documents and all mistakes
// of r's registrations; or if there are none, all errors of making the flows.
func Import(path string, r *kis.Registry) error {
	set, err := load(path, r)
	if err != nil {
		return err
	}
	return build(path, set, r)
}

// load reads the documents of a folder, and checks them. The error has the mistakes of r's registrations too.
func load(path string, r *kis.Registry) (*definition.Set, error) {
	set, _, err := definition.Load(path)
	if err := errors.Join(err, r.Err()); err != nil {
		return nil, fmt.Errorf("import %s: %w", path, err)
	}
	return set, nil
}

// build makes the flows of a set of documents, and registers them with r. path is the folder, for the error.
func build(path string, set *definition.Set, r *kis.Registry) error {
	connectors := make(map[string]*kis.ConnConfig)
	for name, c := range set.Connectors {
		connectors[name] = kis.ConnConfigOf(c)
	}
	functions := make(map[string]*kis.FuncConfig)
	for name, f := range set.Functions {
		own := *f
		own.Timeout = saysTimeout(f.Document, f.Timeout)
		functions[name] = kis.FuncConfigOf(&own, connectors[f.Connector])
	}
	var flows []*flow.KisFlow
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(set.Flows)) {
		f := *set.Flows[name]
		if !f.Enabled {
			log.Logger().InfoF("flow %s is disabled: it is not imported; set its status to 1 to import it", name)
			continue
		}
		f.Timeout = saysTimeout(f.Document, f.Timeout)
		made := flow.New(r, kis.FlowConfigOf(&f))
		for _, entry := range f.Functions {
			if err := made.AppendNewFunction(functions[entry.Name], entry.Params); err != nil {
				errs = append(errs, err)
			}
		}
		flows = append(flows, made)
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("import %s: %w", path, err)
	}
	for _, f := range flows {
		r.AddFlow(f.GetName(), f)
		log.Logger().InfoF("flow %s is imported, with functions %v", f.GetName(), names(f))
	}
	return nil
}

// names returns the names of a flow's functions, for the log.
func names(f *flow.KisFlow) []string {
	var names []string
	for _, function := range f.GetConfig().Flows {
		names = append(names, function.FuncName)
	}
	return names
}

// saysTimeout returns parsed, the timeout of a document, if the document has the key timeout. It returns 0 if not, since parsed
// is only the default then.
func saysTimeout(d definition.Document, parsed time.Duration) time.Duration {
	var says struct {
		Timeout *string `yaml:"timeout"`
	}
	if err := yamltext.Unmarshal(d.YAML, &says); err != nil || says.Timeout == nil {
		return 0
	}
	return parsed
}

// ConfigExportYaml writes the documents of a flow into the folder dir: flow-<name>.yaml, func-<name>.yaml for each function, and
// conn-<name>.yaml for each connector. It makes the folder if there is none. A document that was imported and has not changed is
// written as it was read. ConfigImportYaml reads the files back. It is an error if f is the Flow that a function gets, and not
// one that a program made.
func ConfigExportYaml(f kis.Flow, dir string) error {
	described, ok := f.(interface {
		Documents() ([]definition.Document, error)
	})
	if !ok {
		return fmt.Errorf("export flow %s: only flows that a program made have documents, not the one that a function gets", f.GetName())
	}
	docs, err := described.Documents()
	if err == nil {
		_, err = definition.NewBundle(docs)
	}
	if err == nil {
		err = definition.ExportDir(dir, docs)
	}
	if err != nil {
		return fmt.Errorf("export flow %s to %s: %w", f.GetName(), dir, err)
	}
	return nil
}
