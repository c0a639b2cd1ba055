// Module ids are by default digests of identifiers with absolute paths, so each folder would give other files.
module.exports = { optimization: { moduleIds: 'named', chunkIds: 'named' } };
