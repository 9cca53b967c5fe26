//go:build linux

package upgrade

import (
	"slices"

	"github.com/kisgrid/kisgrid/internal/testgrid"
	"github.com/kisgrid/kisgrid/pkg/definition"
)

// upgradeCase is a flow of the earlier build: its documents, and whether this build takes them in.
type upgradeCase struct {
	flow      string // its last function is Count, which counts each row in Redis
	documents []definition.Document
	// refused is a part of the reason for which this build refuses the documents when they are written anew. Empty means that it
	// takes them.
	refused string
}

// cases has a flow for each kind of document that the earlier build took and this one refuses, and some flows that this one takes.
// Their function Count is shared by all.
func cases() []upgradeCase {
	return []upgradeCase{
		{flow: "OwnNames", refused: "--document-env allows", documents: append(saving("OwnNames", "key: \"${KISGRID_CASE:upgrade:}names:\"\n"), flow("OwnNames", "SaveOwnNames"))},
		{flow: "Files", refused: "--document-files names", documents: append(saving("Files", "username: default\npassword_file: /etc/hostname\n"), flow("Files", "SaveFiles"))},
		{flow: "Long", documents: []definition.Document{flow("Long", slices.Repeat([]string{"VerifyStu"}, 1000)...)}, refused: "--max-steps"},
		{flow: "OwnKeys", refused: "choose another beginning", documents: append(saving("OwnKeys", "key: \"kisgrid:app:\"\n"), flow("OwnKeys", "SaveOwnKeys"))},
		{flow: "Octal", refused: "decimal digits", documents: []definition.Document{
			testgrid.Document(definition.KindFlow, "Octal", "status: 1\ncopies: 010\nflows:\n  - fname: Count\n")}},
		{flow: "Underscore", refused: "decimal digits", documents: append(saving("Underscore", "")[:1], flow("Underscore", "SaveUnderscore"),
			testgrid.Document(definition.KindFunc, "SaveUnderscore", "fmode: Save\noption:\n  cname: StoreUnderscore\n  retry_times: 1_0\n  save: {key: \"{id}\", set: {n: one}}\n"))},
		{flow: "Off", refused: "as a text elsewhere", documents: append(saving("Off", "tls: 'off'\n"), flow("Off", "SaveOff"))},
		{flow: "Tilde", refused: "as if the key were not there", documents: append(saving("Tilde", "username: ~\n"), flow("Tilde", "SaveTilde"))},
		{flow: "NullParam", refused: "as an empty text", documents: append(saving("NullParam", "params: {mine: null}\n"), flow("NullParam", "SaveNullParam"))},
		{flow: "Zeros", refused: "params.pool_size", documents: append(saving("Zeros", "params: {pool_size: 08}\n"), flow("Zeros", "SaveZeros"))},
		{flow: "Colon", refused: "whose form", documents: append(saving("Colon", "")[:1], flow("Colon", "SaveColon"),
			testgrid.Document(definition.KindFunc, "SaveColon", "fmode: Save\noption:\n  cname: StoreColon\n  save: {key: \"{ns:id}\", set: {n: one}}\n"))},
		{flow: "Plain", documents: []definition.Document{flow("Plain", "VerifyStu"),
			testgrid.Document(definition.KindFunc, "VerifyStu", "fmode: Verify\n")}},
		{flow: "Unsharded", documents: []definition.Document{
			testgrid.Document(definition.KindFlow, "Unsharded", "status: 1\nflows:\n  - fname: Count\n")}},
	}
}

// saving is a connector, with more lines in its document, and a function that saves through it.
func saving(name, more string) []definition.Document {
	return []definition.Document{
		testgrid.Document(definition.KindConn, "Store"+name, "type: redis\naddrs: ${REDIS_ADDR}\n"+more),
		testgrid.Document(definition.KindFunc, "Save"+name, "fmode: Save\noption:\n  cname: Store"+name+"\n  save: {key: \"{id}\", set: {n: one}}\n"),
	}
}

// flow is a flow with a shard key, of the given functions and Count.
func flow(name string, functions ...string) definition.Document {
	yaml := "status: 1\nshard_key: k\nflows:\n"
	for _, f := range append(functions, "Count") {
		yaml += "  - fname: " + f + "\n"
	}
	return testgrid.Document(definition.KindFlow, name, yaml)
}
