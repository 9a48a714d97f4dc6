// SPDX-License-Identifier: Apache-2.0
import tseslint from 'typescript-eslint'

export default tseslint.config(
  { ignores: ['build/', 'node_modules/', 'workdir/', 'eslint.config.js'] },
  ...tseslint.configs.recommendedTypeChecked,
  {
    languageOptions: { parserOptions: { projectService: true, tsconfigRootDir: import.meta.dirname } },
    linterOptions: { reportUnusedDisableDirectives: 'error' },
    rules: {
      // A lost await here is a corrupt image.
      '@typescript-eslint/no-floating-promises': 'error',
      '@typescript-eslint/no-misused-promises': 'error',
      '@typescript-eslint/switch-exhaustiveness-check': [
        'error',
        { considerDefaultExhaustiveForUnions: true },
      ],
      '@typescript-eslint/only-throw-error': 'error',
      'no-control-regex': 'error',
      '@typescript-eslint/no-unused-vars': [
        'error',
        { argsIgnorePattern: '^_', destructuredArrayIgnorePattern: '^_', varsIgnorePattern: '^_' },
      ],
      'no-restricted-imports': ['error', 'child_process', 'node:child_process', 'zx/globals'],
      'no-restricted-properties': [
        'error',
        { object: 'process', property: 'env', message: 'Settings are read in scripts/settings.ts only.' },
        { object: 'process', property: 'exit', message: 'Set process.exitCode.' },
      ],
    },
  },
  // The one place that reads the environment.
  { files: ['scripts/settings.ts'], rules: { 'no-restricted-properties': 'off' } },
  // Where programs are started.
  {
    files: ['scripts/run.ts', 'scripts/pipes.ts'],
    rules: { 'no-restricted-imports': ['error', 'zx/globals'] },
  },
  // Tests start the steps as a user would, and read what they were given.
  {
    files: ['tests/**/*.ts'],
    rules: {
      'no-restricted-imports': 'off',
      'no-restricted-properties': 'off',
      // tap's own test functions return promises that the runner waits for.
      '@typescript-eslint/no-floating-promises': 'off',
      '@typescript-eslint/require-await': 'off',
    },
  },
)
