package definition

import "go.yaml.in/yaml/v3"

// ShardKeyOf returns the shard key in a flow's document, even if the document is wrong otherwise. It is "" if the document has
// none. read is false if the document is not YAML with keys, so that nothing is known.
func ShardKeyOf(d Document) (key string, read bool) {
	if p, err := Parse(d); err == nil && p.Flow != nil {
		return p.Flow.ShardKey, true
	}
	var node yaml.Node
	if yaml.Unmarshal(d.YAML, &node) != nil || len(node.Content) == 0 || node.Content[0].Kind != yaml.MappingNode {
		return "", false
	}
	fields := node.Content[0].Content
	for i := 0; i+1 < len(fields); i += 2 {
		value := fields[i+1]
		if value.Kind == yaml.AliasNode {
			value = value.Alias
		}
		if fields[i].Value == "shard_key" {
			return value.Value, value.Kind == yaml.ScalarNode
		}
	}
	return "", true
}
